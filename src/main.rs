fn main(){
 use planewatch::*;
 let mut out=Vec::new(); let mut n=normalize::Normalizer::default(); let mut scanner=decode::Buffers::new(normalize::watched_keys());
 use std::io::Write; let mut so=std::io::stdout().lock(); let mut rej=0; let mut cnt=0;
 for f in std::env::args().skip(1){ let b=std::fs::read(&f).unwrap(); let ctx=event::Context{uri:format!("file://{f}"),source:"replay".into(),now_ms:1795524017000,..Default::default()}.render();
  let mut r=decode::Records::of_bytes(&b,scanner).unwrap();
  while let Some(i)=r.next().unwrap(){ match i { decode::Item::Record(rec)=>{cnt+=1; let e=n.event(&rec,&ctx); event::write_json(&e,&mut out); out.push(b'\n'); if out.len()>1<<18 {so.write_all(&out).unwrap(); out.clear();} } decode::Item::Reject(x)=>{rej+=1; eprintln!("{x:?}");} _=>{} } }
  scanner=r.into_buffers();
 }
 so.write_all(&out).unwrap(); eprintln!("{cnt} {rej}");
}
