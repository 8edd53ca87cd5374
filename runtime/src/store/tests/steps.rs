//! A store without threads: the writer and the index go when they are told to.

use super::super::accept::accept;
use super::super::index::in_memory::Memory;
use super::super::open::{Ground, open_in_steps};
use super::*;

#[tokio::test]
async fn an_accept_waits_for_the_writers_step_and_its_claim_for_the_indexs() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("journal")).unwrap();
    let options = options(dir.path());
    let ground = Ground { index: Arc::new(Memory::default()), ..Ground::of(&options) };
    let (core, mut writer, _) = open_in_steps(options, ground, NOW).unwrap();
    assert!(!writer.step(), "nothing is queued");

    let mut first = Box::pin(accept(&core, request(vec![new_event("evt_1", &[])], "{}")));
    let mut second = Box::pin(accept(&core, request(vec![new_event("evt_1", &[])], "{}")));
    assert!(is_pending(&mut first).await);
    assert!(is_pending(&mut second).await);
    assert!(writer.step());
    assert!(!first.await.unwrap().events()[0].duplicate);
    assert!(second.await.unwrap().events()[0].duplicate);
    assert!(core.view.lag() > 0);
    while core.index_step().unwrap() {}
    assert_eq!(core.view.lag(), 0);
}
