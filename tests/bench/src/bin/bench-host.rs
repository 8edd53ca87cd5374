//! The host side: one delivery's call through Longshore's host beside a bare wasmtime call of the same
//! component (fresh instance, same pool, no limits, no record). Prints one JSON line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use longshore::host::{self, Engine, Grants, Handler, Shelf, ShelfFuture, Wire};
use longshore::words::event::Name;
use longshore::words::shelf::ShelfRead;
use longshore::words::time::Millis;

#[derive(Parser)]
struct Args {
    /// The `test-handlers` component.
    plugin: PathBuf,
    #[arg(long, default_value_t = 2000)]
    calls: usize,
    #[arg(long, default_value_t = 7)]
    rounds: usize,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    let handler = handler(&args.plugin);
    let bare = bare::Bare::new(&args.plugin);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // In turns, so that a noisy neighbour is unfair to both.
    for _ in 0..args.rounds {
        let started = Instant::now();
        for _ in 0..args.calls {
            let called = handler.call(event(), Arc::new(EmptyShelf), Wire::Dry(Vec::new())).await;
            assert!(matches!(called.outcome, longshore::words::attempt::Outcome::Done { .. }), "{called:?}");
        }
        ours.push(per_call(started, args.calls));
        let started = Instant::now();
        for _ in 0..args.calls {
            bare.call().await;
        }
        theirs.push(per_call(started, args.calls));
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!("{}", serde_json::json!({"host_us": ours, "bare_us": theirs, "ratio": ours / theirs}));
}

fn per_call(started: Instant, calls: usize) -> f64 {
    started.elapsed().as_secs_f64() * 1e6 / calls as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn handler(path: &Path) -> Handler {
    let engine = Engine::new(host::Options { cache: None, instances_max: 64 }).expect("the engine starts");
    let plugin = engine.load(path).expect("the component loads");
    let grants = Grants {
        name: Name::new("bench").expect("a name"),
        settings: serde_json::json!({"do": "noop"}).as_object().expect("an object").clone(),
        secrets: BTreeMap::new(),
        origins: Vec::new(),
        networks: Vec::new(),
        limits: host::CallLimits::default(),
    };
    Handler::bind(&engine, plugin, grants).map_err(|p| format!("{p:?}")).expect("the grants fit").0
}

fn event() -> host::Event {
    host::Event {
        id: "evt_1".to_owned(),
        event_type: "message.received".to_owned(),
        source: "sendpilot".to_owned(),
        delivery_id: "1.bench".to_owned(),
        received_at: Millis(0),
        signed_at: None,
        attempt: 1,
        query: None,
        headers: vec![("content-type".to_owned(), "application/json".to_owned())],
        body: bench::request::sample_body().into(),
        attributes: Vec::new(),
    }
}

struct EmptyShelf;

impl Shelf for EmptyShelf {
    fn get<'a>(&'a self, _: &'a str) -> ShelfFuture<'a, ShelfRead> {
        Box::pin(async { Ok(ShelfRead::default()) })
    }
    fn list<'a>(&'a self, _: &'a str, _: Option<&'a str>, _: u32) -> ShelfFuture<'a, Vec<String>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn bytes<'a>(&'a self) -> ShelfFuture<'a, u64> {
        Box::pin(async { Ok(0) })
    }
}

/// What wasmtime costs when nobody adds anything.
mod bare {
    use super::*;
    use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
    use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store};
    use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

    mod bindings {
        wasmtime::component::bindgen!({ path: "../../sdk/wit", world: "plugin", imports: { default: async | trappable }, exports: { default: async } });
    }
    use bindings::exports::longshore::plugin::handler::Event;
    use bindings::longshore::plugin::{http, log, settings, state, types};

    struct Guest {
        wasi: WasiCtx,
        table: ResourceTable,
    }

    impl WasiView for Guest {
        fn ctx(&mut self) -> WasiCtxView<'_> {
            WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
        }
    }
    impl types::Host for Guest {}
    impl log::Host for Guest {
        async fn log(&mut self, _: log::Level, _: String, _: Vec<(String, String)>) -> Result<()> {
            Ok(())
        }
    }
    impl settings::Host for Guest {
        async fn get(&mut self, key: String) -> Result<Option<String>> {
            Ok((key == "do").then(|| "noop".to_owned()))
        }
        async fn all(&mut self) -> Result<String> {
            Ok(r#"{"do":"noop"}"#.to_owned())
        }
    }
    impl state::Host for Guest {
        async fn get(&mut self, _: String) -> Result<Result<Option<Vec<u8>>, state::Error>> {
            Ok(Ok(None))
        }
        async fn set(&mut self, _: String, _: Vec<u8>, _: Option<u64>) -> Result<Result<(), state::Error>> {
            Ok(Ok(()))
        }
        async fn delete(&mut self, _: String) -> Result<Result<(), state::Error>> {
            Ok(Ok(()))
        }
        async fn add(&mut self, _: String, _: i64, _: Option<u64>) -> Result<Result<(), state::Error>> {
            Ok(Ok(()))
        }
        async fn list_keys(
            &mut self,
            _: String,
            _: Option<String>,
            _: u32,
        ) -> Result<Result<Vec<String>, state::Error>> {
            Ok(Ok(Vec::new()))
        }
    }
    impl http::Host for Guest {
        async fn send(&mut self, _: http::Request) -> Result<Result<http::Response, http::Error>> {
            Ok(Err(http::Error::Denied("bench".to_owned())))
        }
        async fn disown(&mut self, _: u32) -> Result<()> {
            Ok(())
        }
    }

    pub struct Bare {
        pre: bindings::PluginPre<Guest>,
        event: Event,
    }

    impl Bare {
        pub fn new(path: &Path) -> Bare {
            let mut pool = PoolingAllocationConfig::new();
            pool.total_component_instances(64).total_stacks(64).total_memories(128).total_tables(256);
            pool.total_core_instances(4096).max_memory_size(1 << 30);
            pool.linear_memory_keep_resident(64 << 10).table_keep_resident(16 << 10);
            let mut config = Config::new();
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
            let engine = Engine::new(&config).expect("the pool fits");
            let mut linker = Linker::<Guest>::new(&engine);
            wasmtime_wasi::p2::add_to_linker_async(&mut linker).expect("WASI links");
            bindings::Plugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |g| g).expect("the world links");
            let component = Component::from_file(&engine, path).expect("the component compiles");
            let pre = linker.instantiate_pre(&component).expect("its imports are met");
            let pre = bindings::PluginPre::new(pre).expect("it exports the handler");
            Bare { pre, event: as_event(super::event()) }
        }

        pub async fn call(&self) {
            let guest = Guest { wasi: WasiCtx::builder().build(), table: ResourceTable::new() };
            let mut store = Store::new(self.pre.engine(), guest);
            let call = async {
                let plugin = self.pre.instantiate_async(&mut store).await?;
                plugin.longshore_plugin_handler().call_handle(&mut store, &self.event).await
            };
            let outcome = tokio::time::timeout(Duration::from_secs(10), call).await.expect("in time");
            outcome.expect("no trap").expect("no failure");
        }
    }

    fn as_event(event: host::Event) -> Event {
        Event {
            id: event.id,
            type_: event.event_type,
            source: event.source,
            delivery_id: event.delivery_id,
            received_at_ms: 0,
            signed_at_ms: None,
            attempt: 1,
            budget_ms: 10_000,
            query: None,
            headers: event.headers,
            body: event.body.to_vec(),
            attributes: Vec::new(),
        }
    }
}
