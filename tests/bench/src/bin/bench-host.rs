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
    /// One side alone, for a profiler.
    #[arg(long)]
    only: Option<Side>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Side {
    Host,
    Bare,
}

/// Both sides run where deliveries run: in a task of the guests' runtime.
fn main() {
    let args = Args::parse();
    let runtime = host::runtime(1).expect("threads for the guests");
    let both = runtime.block_on(runtime.spawn(measure(args))).expect("no panic");
    println!("{both}");
}

async fn measure(args: Args) -> serde_json::Value {
    let handler = handler(&args.plugin);
    let bare = bare::Bare::new(&args.plugin);
    let event = event();
    let shelf: Arc<dyn Shelf> = Arc::new(EmptyShelf);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // In turns, so that a noisy neighbour is unfair to both.
    for _ in 0..args.rounds {
        if args.only != Some(Side::Bare) {
            let started = Cpu::now();
            for _ in 0..args.calls {
                let called = handler.call(event.clone(), Arc::clone(&shelf), Wire::dry(Vec::new())).await;
                let outcome = called.outcome;
                assert!(matches!(outcome, longshore::words::attempt::Outcome::Done { .. }), "{outcome:?}");
            }
            ours.push(started.per(args.calls));
        }
        if args.only != Some(Side::Host) {
            let started = Cpu::now();
            for _ in 0..args.calls {
                bare.call().await;
            }
            theirs.push(started.per(args.calls));
        }
    }
    let (ours, theirs) = (median(ours), median(theirs));
    serde_json::json!({"host_us": ours.wall, "bare_us": theirs.wall, "ratio": ours.wall / theirs.wall,
        "host_cpu_us": ours.cpu, "bare_cpu_us": theirs.cpu, "ratio_cpu": ours.cpu / theirs.cpu})
}

/// Time on the clock and time on a processor: the second says more where others use the machine too.
#[derive(Clone, Copy)]
struct Cpu {
    wall: Instant,
    cpu: Duration,
}

#[derive(Clone, Copy, Default)]
struct PerCall {
    wall: f64,
    cpu: f64,
}

impl Cpu {
    fn now() -> Cpu {
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        let cpu = Duration::try_from(used).expect("a process uses no negative time");
        Cpu { wall: Instant::now(), cpu }
    }

    fn per(self, calls: usize) -> PerCall {
        let now = Cpu::now();
        let each = |time: Duration| time.as_secs_f64() * 1e6 / calls as f64;
        PerCall { wall: each(now.wall - self.wall), cpu: each(now.cpu - self.cpu) }
    }
}

fn median(measured: Vec<PerCall>) -> PerCall {
    let middle = |of: fn(&PerCall) -> f64| {
        let mut values: Vec<f64> = measured.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    PerCall { wall: middle(|m| m.wall), cpu: middle(|m| m.cpu) }
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
        effects: host::EffectPolicy::default(),
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
    use longshore::words::limits;
    use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
    use wasmtime::{
        Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result, Store,
    };
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
            // The host's own settings, so that what is compared is what the host adds.
            pool.max_unused_warm_slots(64).table_keep_resident(limits::GUEST_TABLE_KEPT_BYTES);
            match PoolingAllocationConfig::is_pagemap_scan_available() {
                true => pool
                    .pagemap_scan(Enabled::Yes)
                    .linear_memory_keep_resident(limits::GUEST_MEMORY_KEPT_BYTES),
                false => pool.linear_memory_keep_resident(limits::GUEST_MEMORY_KEPT_BLINDLY_BYTES),
            };
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
