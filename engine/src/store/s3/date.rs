//! What time the service says that it is.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use jiff::Timestamp;

use crate::store::http_time;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Listens to one request for the `Date` of its answer, which the SDK's typed answers leave out.
#[derive(Debug, Clone, Default)]
pub(super) struct AnsweredAt(Arc<Mutex<Option<Timestamp>>>);

impl AnsweredAt {
    /// The service's time; none when it told none.
    pub(super) fn time(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for AnsweredAt {
    fn name(&self) -> &'static str {
        "AnsweredAt"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date.and_then(http_time::parse);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::canned::{Canned, answer};

    /// This machine's clock has no say in it: the answers below are of another time.
    #[tokio::test]
    async fn an_uploads_age_is_by_the_services_clock() {
        let upload = "<ListMultipartUploadsResult><Upload><Key>a</Key><UploadId>id</UploadId>\
             <Initiated>1994-11-06T08:49:37.000Z</Initiated></Upload></ListMultipartUploadsResult>";
        for (date, age) in [
            ("Date: Sun, 06 Nov 1994 11:49:37 GMT\r\n", 3 * 60 * 60),
            ("Date: Sun, 06 Nov 1994 08:49:36 GMT\r\n", 0),
            ("", 0),
        ] {
            let canned = Canned::start(vec![answer("200 OK", date, upload)]).await;
            let uploads = canned.store.list_uploads("").await;
            assert_eq!(uploads.unwrap()[0].age.as_secs(), age, "{date:?}");
        }
    }
}
