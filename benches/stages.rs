//! Stages of the way from bytes to a durable event, each by itself. Compare ratios within one run.
#![allow(missing_docs, clippy::unwrap_used, reason = "criterion makes the functions; a bench may panic")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use planewatch::decode::{Buffers, Item, Records};
use planewatch::event::{Context, EventType, write_json};
use planewatch::normalize::{Normalizer, watched_keys};
use planewatch::store::{Batch, Intake, Store, StoreOptions};
use std::hint::black_box;
use std::io::Write;

const EVENTS: usize = 1_000;

fn object(first: usize) -> Vec<u8> {
    let record = |n: usize| {
        format!(
            r#"{{"eventVersion":"1.11","userIdentity":{{"type":"AssumedRole","principalId":"AROAEXAMPLE:session","arn":"arn:aws:sts::111122223333:assumed-role/app/session","accountId":"111122223333","accessKeyId":"ASIAEXAMPLE","sessionContext":{{"sessionIssuer":{{"type":"Role","principalId":"AROAEXAMPLE","arn":"arn:aws:iam::111122223333:role/app","accountId":"111122223333","userName":"app"}},"attributes":{{"creationDate":"2026-01-01T00:00:00Z","mfaAuthenticated":"false"}}}}}},"eventTime":"2026-01-02T03:04:05Z","eventSource":"s3.amazonaws.com","eventName":"GetObject","awsRegion":"eu-west-1","sourceIPAddress":"192.0.2.{}","userAgent":"[aws-sdk-java/2.20 Linux/5.10 OpenJDK]","requestParameters":{{"bucketName":"bucket-{}","Host":"bucket.s3.eu-west-1.amazonaws.com","key":"data/part-{n}.parquet"}},"responseElements":null,"additionalEventData":{{"SignatureVersion":"SigV4","CipherSuite":"ECDHE-RSA-AES128-GCM-SHA256","bytesTransferredIn":0,"bytesTransferredOut":{n}}},"requestID":"R{n}","eventID":"00000000-0000-4000-8000-{n:012}","readOnly":true,"resources":[{{"type":"AWS::S3::Object","ARN":"arn:aws:s3:::bucket/data/part-{n}.parquet"}}],"eventType":"AwsApiCall","managementEvent":false,"recipientAccountId":"111122223333","eventCategory":"Data"}}"#,
            n % 250,
            n % 7
        )
    };
    let all: Vec<_> = (first..first + EVENTS).map(record).collect();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(format!("{{\"Records\":[{}]}}", all.join(",")).as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Calls `each` with every record of an object; hands the buffers on.
fn decode(bytes: &[u8], buffers: Buffers, mut each: impl FnMut(&planewatch::decode::Record<'_>)) -> Buffers {
    let mut records = Records::of_bytes(bytes, buffers).unwrap();
    while let Some(item) = records.next().unwrap() {
        if let Item::Record(record) = item {
            each(&record);
        }
    }
    records.into_buffers()
}

fn batch(first: usize, context: &Context) -> Batch {
    let (mut normalizer, mut batch) = (Normalizer::default(), Batch::new(EventType::CloudTrail));
    decode(&object(first), Buffers::new(watched_keys()), |record| batch.push(&normalizer.event(record, context)));
    batch
}

fn stages(c: &mut Criterion) {
    let object = object(0);
    let context = Context { source: "bench".to_owned(), uri: "s3://bucket/key".to_owned(), ..Context::default() }.render();
    let mut group = c.benchmark_group("per object of 1000 events");
    group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(20);
    let mut buffers = Buffers::new(watched_keys());
    group.bench_function("decode", |b| {
        b.iter(|| {
            buffers = decode(&object, std::mem::take(&mut buffers), |record| {
                black_box(record.index);
            });
        });
    });
    let mut normalizer = Normalizer::default();
    group.bench_function("decode, normalize", |b| {
        b.iter(|| {
            buffers = decode(&object, std::mem::take(&mut buffers), |record| drop(black_box(normalizer.event(record, &context))));
        });
    });
    let mut out = Vec::new();
    group.bench_function("replay: decode, normalize, JSON", |b| {
        b.iter(|| {
            out.clear();
            buffers = decode(&object, std::mem::take(&mut buffers), |record| write_json(&normalizer.event(record, &context), &mut out));
        });
    });
    group.finish();
}

fn commit(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(StoreOptions::new(folder.path())).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let context = Context { source: "bench".to_owned(), uri: "s3://bucket/key".to_owned(), ..Context::default() };
    let mut group = c.benchmark_group("commit");
    group.throughput(Throughput::Elements(EVENTS as u64)).sample_size(20);
    let mut first = 0;
    group.bench_function("1000 new events, durable", |b| {
        b.iter_batched(
            || {
                first += EVENTS;
                batch(first, &context)
            },
            |batch| {
                runtime.block_on(store.commit(Intake { source: "bench".to_owned(), batches: vec![batch], ..Intake::default() })).unwrap()
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
    store.close();
}

criterion_group!(benches, stages, commit);
criterion_main!(benches);
