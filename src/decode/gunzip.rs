//! Gunzip: sniffed, every member, bounded; a whole small object at once, a large one as a stream.

use super::Reason;
use std::io::{self, BufRead, BufReader, Read};

/// An inflated object up to this size is held whole (libdeflate, twice as fast); a larger one is streamed.
pub const WHOLE_BYTES_MAX: usize = 4 << 20;
/// How often gzip may be inside gzip: Firehose compresses what `CloudWatch` Logs had compressed.
const LAYERS_MAX: usize = 2;
/// Read ahead of compressed bytes.
const READ_BYTES: usize = 64 << 10;

/// Whether these bytes start as gzip does.
pub fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Inflates a whole object at once, where that is certain to be right: one member, its stated size true and small.
/// How many bytes of `out` that made; more of it may be left over from before. None: stream it instead, which also tells
/// what is wrong.
pub(super) fn whole(bytes: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Option<usize> {
    let stated = u32::from_le_bytes(*bytes.last_chunk::<4>()?) as usize;
    // libdeflate stops after one member and does not say where: a second header, real or not, is the stream's job.
    // Compressed bytes look like one by chance; the flags' reserved bits, which are zero in a real one, sort most of them out.
    let mut headers = memchr::memmem::find_iter(&bytes[2..], &[0x1f, 0x8b, 0x08]);
    let has_more = headers.any(|at| bytes.get(at + 5).is_none_or(|flags| flags & 0xe0 == 0));
    if stated > bytes_max || has_more {
        return None;
    }
    if out.len() < stated {
        // To the byte: twice the room of a large object is a lot of memory for each decoder.
        out.reserve_exact(stated - out.len());
        out.resize(stated, 0);
    }
    let mut inflater = libdeflater::Decompressor::new();
    match inflater.gzip_decompress(bytes, &mut out[..stated]) {
        Ok(n) if n == stated && !is_gzip(&out[..n]) => Some(n),
        _ => None,
    }
}

/// How a stream of bytes ended before its time.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub(super) struct Damage {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

/// A reader of the inflated bytes, or of the bytes themselves where they are not gzip. What is wrong with the gzip comes
/// as an error: `UnexpectedEof` where it ends in the middle, else `InvalidData`.
pub fn stream<'r>(input: impl Read + Send + 'r) -> io::Result<Box<dyn BufRead + Send + 'r>> {
    let mut reader: Box<dyn BufRead + Send + 'r> = Box::new(BufReader::with_capacity(READ_BYTES, input));
    for _ in 0..LAYERS_MAX {
        if !is_gzip(peek(&mut reader)?) {
            break;
        }
        reader = Box::new(BufReader::with_capacity(READ_BYTES, Members::new(reader)));
    }
    Ok(reader)
}

/// The first bytes, for sniffing. Damage at the very start is not an error here: reading on reports it.
fn peek<'b>(reader: &'b mut Box<dyn BufRead + Send + '_>) -> io::Result<&'b [u8]> {
    match reader.fill_buf() {
        Ok(bytes) => Ok(bytes),
        Err(error)
            if error.get_ref().is_some_and(<dyn std::error::Error + std::marker::Send + std::marker::Sync + 'static>::is::<Damage>) =>
        {
            Ok(&[])
        }
        Err(error) => Err(error),
    }
}

fn damage(reason: Reason, detail: impl Into<String>) -> io::Error {
    let kind = if reason == Reason::CutGzip { io::ErrorKind::UnexpectedEof } else { io::ErrorKind::InvalidData };
    io::Error::new(kind, Damage { reason, detail: detail.into() })
}

#[expect(clippy::disallowed_types, reason = "this is the one place that loops over members; its reader is bounded by the window")]
type Member<R> = flate2::bufread::GzDecoder<R>;

/// All members of a gzip stream, one after the other.
struct Members<R: BufRead> {
    member: Option<Member<R>>,
    ended: Option<R>,
    fault: Option<(Reason, String)>,
}

impl<R: BufRead> Members<R> {
    fn new(input: R) -> Self {
        Self { member: Some(Member::new(input)), ended: None, fault: None }
    }

    /// After a member: another one, nothing, padding, or bytes that do not belong.
    fn next_member(&mut self) -> io::Result<bool> {
        let Some(mut input) = self.ended.take() else { return Ok(false) };
        let mut padding = 0_u64;
        loop {
            let rest = input.fill_buf()?;
            match rest.first() {
                None => return Ok(false),
                Some(0x1f) if padding == 0 && (rest.len() == 1 || is_gzip(rest)) => {
                    self.member = Some(Member::new(input));
                    return Ok(true);
                }
                Some(0) => {
                    let n = rest.iter().take_while(|b| **b == 0).count();
                    padding += n as u64;
                    input.consume(n);
                }
                Some(_) => return Err(damage(Reason::BytesAfterGzip, "bytes follow the gzip stream that are not another member")),
            }
        }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some((reason, detail)) = &self.fault {
                return Err(damage(*reason, detail.clone()));
            }
            if self.member.is_none() && !self.next_member()? {
                return Ok(0);
            }
            let Some(member) = &mut self.member else { return Ok(0) };
            match member.read(buf) {
                Ok(0) => self.ended = self.member.take().map(Member::into_inner),
                Ok(n) => return Ok(n),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.fault = Some((Reason::CutGzip, "the gzip stream ends in the middle".to_owned()));
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
                    if error.get_ref().is_some_and(<dyn std::error::Error + std::marker::Send + std::marker::Sync + 'static>::is::<Damage>)
                    {
                        return Err(error);
                    }
                    self.fault = Some((Reason::BadGzip, format!("the gzip stream is damaged: {error}")));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gz(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn streamed(bytes: &[u8]) -> (Vec<u8>, Option<Reason>) {
        let mut out = Vec::new();
        let error = stream(bytes).unwrap().read_to_end(&mut out).err();
        (out, error.map(|it| it.get_ref().unwrap().downcast_ref::<Damage>().unwrap().reason))
    }

    #[test]
    fn members_are_all_read_and_identical_ones_too() {
        let two = [gz(b"same"), gz(b"same")].concat();
        assert_eq!(streamed(&two), (b"samesame".to_vec(), None));
        assert_eq!(whole(&two, WHOLE_BYTES_MAX, &mut Vec::new()), None);
        assert_eq!(streamed(&gz(&gz(b"twice"))), (b"twice".to_vec(), None));
        assert_eq!(streamed(b"plain"), (b"plain".to_vec(), None));
    }

    #[test]
    fn damage_is_named_and_what_came_before_is_kept() {
        let text = b"0123456789".repeat(5000);
        let good = gz(&text);
        assert_eq!(streamed(&[&good[..], b"tail"].concat()), (text.clone(), Some(Reason::BytesAfterGzip)));
        assert_eq!(streamed(&[&good[..], &[0; 512]].concat()), (text.clone(), None));
        for cut in [11, good.len() / 2, good.len() - 1] {
            assert_eq!(streamed(&good[..cut]).1, Some(Reason::CutGzip), "{cut}");
        }
        let mut bad = good;
        let at = bad.len() - 6;
        bad[at] ^= 1;
        assert_eq!(streamed(&bad).1, Some(Reason::BadGzip));
    }

    #[test]
    fn whole_is_used_up_to_its_limit_and_not_past_it() {
        let mut out = Vec::new();
        assert_eq!(whole(&gz(&vec![b' '; WHOLE_BYTES_MAX]), WHOLE_BYTES_MAX, &mut out), Some(WHOLE_BYTES_MAX));
        assert_eq!(whole(&gz(b"less"), WHOLE_BYTES_MAX, &mut out), Some(4));
        assert!(out.starts_with(b"less "));
        assert_eq!(whole(&gz(&vec![b' '; WHOLE_BYTES_MAX + 1]), WHOLE_BYTES_MAX, &mut out), None);
    }
}
