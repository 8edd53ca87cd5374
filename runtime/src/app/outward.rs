//! Outward: the door's way out for keys and confirmations is the host's vetted client. Neither room knows the other.

use std::pin::Pin;
use std::sync::Arc;

use crate::host;
use crate::intake;
use crate::verify;
use crate::words::limits::KEY_FETCH_TIMEOUT;

struct Outward(host::Fetcher);

pub fn to_the_world() -> Arc<dyn intake::Outward> {
    Arc::new(Outward(host::Fetcher::new()))
}

impl intake::Outward for Outward {
    fn send(
        &self,
        ask: verify::Ask,
    ) -> Pin<Box<dyn Future<Output = Result<intake::Answered, String>> + Send + '_>> {
        Box::pin(async move {
            let fetched = self.0.fetch(&ask.url, ask.json, KEY_FETCH_TIMEOUT).await?;
            Ok(intake::Answered { status: fetched.status, body: fetched.body })
        })
    }
}
