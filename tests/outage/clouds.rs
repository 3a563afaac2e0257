//! S3 and Google at once, with one of them away for a while: the other goes on, what is archived at one only is held,
//! and both are complete in the end.

use serde_json::Value;

use crate::archiver::{Bucket, Database, Destination, Site, files_below};
use crate::harness::{Gcs, Line, TcpProxy, wait_until};
use crate::workspace::{code, stderr};
use crate::{DRAINED_WITHIN, FILES, Server};

/// An archiver with both, each behind a line of its own.
struct Both {
    server: Server,
    /// Ends with it.
    _bucket: Bucket,
    google: Gcs,
    s3_line: TcpProxy,
    google_line: TcpProxy,
    site: Site,
}

impl Both {
    fn new() -> Self {
        let (server, bucket, google) = (Server::new(), Bucket::start(), Gcs::start());
        let s3_line = bucket.block_on(TcpProxy::start(&bucket.server.address()));
        let google_line = bucket.block_on(TcpProxy::start(&google.address()));
        let destination = Destination::Bucket(&bucket);
        let site = Site::of("it", server.datadir(), Database::Sqlite, destination);
        let through = format!("http://127.0.0.1:{}", s3_line.port());
        site.workspace.edit(&bucket.proxy.endpoint(), &through);
        let section = format!(
            "[[destination]]\nurl = \"gs://{}/it\"\nendpoint = \"http://127.0.0.1:{}\"\ncredentials = \"file:{}\"\n\n[encryption]",
            Gcs::BUCKET,
            google_line.port(),
            google.credentials_file().display(),
        );
        site.workspace.edit("[encryption]", &section);
        Self {
            server,
            _bucket: bucket,
            google,
            s3_line,
            google_line,
            site,
        }
    }

    /// How far a destination has come, by the scheme of its URL.
    fn watermark(&self, scheme: &str) -> Option<u64> {
        let (report, _) = self.site.report();
        let rows = report["sources"].as_array().cloned().unwrap_or_default();
        let of = |row: &&Value| {
            let url = row["destination"].as_str();
            url.is_some_and(|url| url.starts_with(scheme))
        };
        rows.iter().find(of)?["watermark"].as_u64()
    }

    fn comes_to(&self, scheme: &str, watermark: u64) {
        let reached = wait_until(DRAINED_WITHIN, || self.watermark(scheme) >= Some(watermark));
        assert!(reached, "{scheme} no {watermark}: {}", self.site.log());
    }

    fn line(&self, scheme: &str) -> &TcpProxy {
        if scheme == "s3" {
            &self.s3_line
        } else {
            &self.google_line
        }
    }

    /// `away` is gone while files arrive, and the other one archives them all.
    fn one_away(self, away: &str, other: &str) {
        self.site.close_up_to(1);
        let daemon = self.site.start();
        self.comes_to("s3", 1);
        self.comes_to("gs", 1);
        self.line(away).set(Line::Refused);
        self.line(away).cut();
        self.site.close_up_to(FILES);
        self.comes_to(other, FILES);
        assert_eq!(self.watermark(away), Some(1), "it was not away");
        // What both have is let go of soon.
        let held = || files_below(&self.site.spool().join("pin"));
        wait_until(DRAINED_WITHIN, || held().len() as u64 == FILES - 1);
        let held = held();
        assert_eq!(
            held.len() as u64,
            FILES - 1,
            "what one of them lacks is held: {held:?}"
        );

        self.line(away).set(Line::Open);
        self.comes_to(away, FILES);
        assert_eq!(daemon.terminate(), Some(0), "{}", self.site.log());
        self.site.assert_whole(&self.server.originals, FILES);
        let google = format!("gs://{}/it", Gcs::BUCKET);
        let mut verify = self.site.workspace.restore();
        let verify = verify.args(["verify", "--destination", &google]).output();
        let verify = verify.unwrap();
        assert_eq!(code(&verify), 0, "{}", stderr(&verify));
        assert!(
            !self.google.uploads().is_empty(),
            "no upload of several parts"
        );
    }
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn google_goes_on_while_s3_is_away() {
    Both::new().one_away("s3", "gs");
}

#[test]
#[ignore = "needs the lab: tests/lab/install"]
fn s3_goes_on_while_google_is_away() {
    Both::new().one_away("gs", "s3");
}
