//! Traces for whoever collects them: what each file's attempt spent its time on, over OTLP.
//!
//! # Owns
//! The export. It is off unless the environment names a collector, as OpenTelemetry's specification has it:
//! `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`; its further variables (headers, timeout,
//! `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_…`) hold as well. Protocol buffers over HTTP.
//!
//! A trace is an attempt at a file, `archive`; in it are the steps [`STEP`], as far as it got.
//!
//! # Limits
//! Spans wait in a queue of the SDK's (2,048) for a thread of its own. What it has no room for, or what the collector
//! does not take, is lost: archiving waits for nobody who watches.

use std::env;

use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;

use crate::exit::{Exit, Failure};
use crate::terminal::LogLayer;

/// The target of spans that are a step of an attempt: in traces, and not in the log.
pub const STEP: &str = "gtide::step";

/// What the collector knows it as, unless the environment says otherwise.
const SERVICE: &str = "gtide";

/// Either of them turns it on.
const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];

/// An export that is under way. What waits is sent when it is dropped.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// `None` unless the environment names a collector. Not to be called where asynchronous code runs.
    ///
    /// # Errors
    /// When what the environment says of it cannot be used.
    pub fn from_environment() -> Result<Option<Self>, Failure> {
        let is_set = |name: &&str| env::var_os(name).is_some_and(|value| !value.is_empty());
        if !ENDPOINTS.iter().any(is_set) {
            return Ok(None);
        }
        let exporter = SpanExporter::builder().with_http().build();
        let exporter = exporter.map_err(|error| Failure {
            message: format!("traces cannot be exported: {error}"),
            exit: Exit::Usage,
            hint: Some(format!(
                "look at {} in the environment",
                ENDPOINTS.join(" and ")
            )),
        })?;
        let service = env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| SERVICE.to_owned());
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(Resource::builder().with_service_name(service).build())
            .build();
        Ok(Some(Self(provider)))
    }

    /// To be put beside the log.
    #[must_use]
    pub fn layer(&self) -> LogLayer {
        let spans = Targets::new()
            .with_target("engine", Level::INFO)
            .with_target(STEP, Level::DEBUG);
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(spans)
            .boxed()
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // A collector that is away is not worth a word at the end.
        let _ = self.0.shutdown();
    }
}
