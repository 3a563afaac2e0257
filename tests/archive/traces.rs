//! Traces, as a collector gets them: the protocol's own messages, read from its own port.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::harness::free_port;
use crate::workspace::{Workspace, code, stderr};

/// Keeps every span that is sent to it.
struct Collector {
    endpoint: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let spans = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&spans);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || serve(stream.unwrap(), &kept));
            }
        });
        Self { endpoint, spans }
    }

    fn named(&self, name: &str) -> Vec<Span> {
        let spans = self.spans.lock().unwrap();
        let named = spans.iter().filter(|span| span.name == name);
        named.cloned().collect()
    }
}

/// One request after the other, each with its length.
fn serve(stream: TcpStream, kept: &Mutex<Vec<Span>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut length = 0;
        let mut line = String::new();
        let mut first = String::new();
        while reader.read_line(&mut line).unwrap_or(0) > 0 && line != "\r\n" {
            if first.is_empty() {
                first.clone_from(&line);
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        if first.is_empty() {
            return;
        }
        assert!(first.starts_with("POST /v1/traces "), "{first}");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let request = ExportTraceServiceRequest::decode(&body[..]).unwrap();
        let scopes = request.resource_spans.into_iter();
        let scopes = scopes.flat_map(|resource| resource.scope_spans);
        let spans = scopes.flat_map(|scope| scope.spans);
        kept.lock().unwrap().extend(spans);
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

#[test]
fn each_attempt_is_a_trace_with_its_steps() {
    let collector = Collector::start();
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let mut run = workspace.gtide();
    run.args(["run", "--once"]);
    run.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint);
    let output = run.output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));

    let attempts = collector.named("archive");
    assert_eq!(attempts.len(), 13);
    let file = |span: &Span| {
        let attribute = span.attributes.iter().find(|a| a.key == "file").unwrap();
        format!("{:?}", attribute.value)
    };
    let second = attempts
        .iter()
        .find(|span| file(span).contains("binlog.000002"));
    let second = second.unwrap();
    for step in ["seal", "upload", "commit"] {
        let steps = collector.named(step);
        assert_eq!(steps.len(), 13, "{step}");
        let of_second = steps.iter().filter(|s| s.parent_span_id == second.span_id);
        let of_second: Vec<_> = of_second.collect();
        assert_eq!(of_second.len(), 1, "{step}");
        assert_eq!(of_second[0].trace_id, second.trace_id);
        assert!(of_second[0].end_time_unix_nano <= second.end_time_unix_nano);
    }
    // What is done ahead of a file's attempt is a trace of its own. A lane's first file has nothing before it.
    let prepared = collector.named("prepare");
    assert!(prepared.len() < attempts.len(), "{}", prepared.len());
    assert!(prepared.iter().all(|span| span.parent_span_id.is_empty()));
    // What is a step in a trace is no noise in the log.
    assert!(
        !stderr(&output).contains("otel.name"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_collector_that_is_away_holds_up_nothing() {
    let workspace = Workspace::of_fixture("binlog/mysql-9.7");
    let mut run = workspace.gtide();
    run.args(["run", "--once"]);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    run.env("OTEL_EXPORTER_OTLP_ENDPOINT", nobody);
    let output = run.output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert_eq!(workspace.archived("log").len(), 13);
}
