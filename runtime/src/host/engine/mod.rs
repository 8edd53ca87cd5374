//! The engine: one compiler, one pool of instances, one clock for guests, one linker for each contract.
//!
//! Everything slow happens here, once: the linker is filled, plugins are compiled and type-checked. A call
//! finds all of it ready.

mod cache;
mod ticker;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Mutex, Weak};

use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

use self::cache::Cache;
use self::ticker::Ticker;
use super::call::State;
use super::http::Network;
use super::{Error, Options, bindings, plugin};
use crate::words::digest::Digest;
use crate::words::limits;

pub(super) struct Inner {
    pub(super) wasm: wasmtime::Engine,
    pub(super) linker: Linker<State>,
    pub(super) ticker: Ticker,
    /// In front of the pool: a full pool is a queue, never a plugin's failure.
    pub(super) instances: Semaphore,
    pub(super) cache: Option<Cache>,
    /// Plugins in use, by digest: two handlers of one plugin compile and describe it once.
    pub(super) plugins: Mutex<HashMap<Digest, Weak<plugin::Inner>>>,
    pub(super) network: Network,
}

impl Inner {
    pub(super) fn new(options: &Options) -> Result<Inner, Error> {
        let instances = options.instances_max.max(1);
        let wasm = start(instances)?;
        let mut linker = Linker::new(&wasm);
        bindings::link(&mut linker).map_err(|e| Error::Engine(format!("{e:#}")))?;
        let cache = options.cache.as_deref().map(|folder| Cache::open(folder, &wasm)).transpose()?;
        Ok(Inner {
            ticker: Ticker::start(&wasm)
                .map_err(|e| Error::Engine(format!("no thread for its clock: {e}")))?,
            linker,
            wasm,
            instances: Semaphore::new(instances as usize),
            cache,
            plugins: Mutex::default(),
            network: Network::new(),
        })
    }
}

/// With the pool where its address space can be had, else with instances allocated one by one. Asking is the
/// only sure probe: it depends on the machine's address width, on RLIMIT_AS and on the sandbox around us.
fn start(instances: u32) -> Result<wasmtime::Engine, Error> {
    let pooled = InstanceAllocationStrategy::Pooling(pool(instances));
    match wasmtime::Engine::new(config().allocation_strategy(pooled)) {
        Ok(engine) => Ok(engine),
        Err(error) => {
            tracing::warn!(
                instances,
                error = format!("{error:#}"),
                "no address space for a pool of instances: each call allocates its own, which is slower"
            );
            wasmtime::Engine::new(config().allocation_strategy(InstanceAllocationStrategy::OnDemand))
                .map_err(|e| Error::Engine(format!("{e:#}")))
        }
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        // Above 16 MiB, the default, an image that is mostly zeros is copied instead of mapped.
        .memory_guaranteed_dense_image_size(64 << 20)
        .max_wasm_stack(limits::GUEST_STACK_BYTES)
        .async_stack_size(limits::GUEST_ASYNC_STACK_BYTES)
        // A stack of the pool goes from one handler to another.
        .async_stack_zeroing(true)
        // The bits of a NaN are the processor's, and a guest can look at them.
        .cranelift_nan_canonicalization(true)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        // An environment variable must not change what a trap says.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(32));
    config
}

fn pool(instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(4))
        // A mere counter, but one CPython takes 14 and one QuickJS 9 of them.
        .total_core_instances(instances.saturating_mul(64))
        .max_core_instances_per_component(limits::GUEST_CORE_INSTANCES_MAX as u32)
        .max_memories_per_component(limits::GUEST_MEMORIES_MAX as u32)
        .max_tables_per_component(limits::GUEST_TABLES_MAX as u32)
        .max_tables_per_module(4)
        .max_memories_per_module(2)
        .table_elements(limits::GUEST_TABLE_ELEMENTS_MAX)
        .max_component_instance_size(2 << 20)
        .max_core_instance_size(1 << 20)
        .max_memory_size(limits::GUEST_MEMORY_BYTES_MAX as usize)
        .max_unused_warm_slots(instances)
        // What a guest and the host functions below it use of their stack is zeroed by hand, the rest is given
        // back: asking the kernel for all of it costs four page faults at the next call.
        .async_stack_keep_resident(limits::GUEST_STACK_KEPT_BYTES)
        .table_keep_resident(limits::GUEST_TABLE_KEPT_BYTES);
    keep_memory(&mut pool, PoolingAllocationConfig::is_pagemap_scan_available());
    pool
}

/// How a memory is made new for the next guest. Where the kernel tells which pages were written (Linux 6.7), those
/// are written over and stay: no page is faulted in again, and no other core is told of a change. Else the kernel
/// takes the memory back, but for its first pages; more of them is a memset at every drop, which is slower for
/// small guests, and most are.
fn keep_memory(pool: &mut PoolingAllocationConfig, tells_written: bool) {
    match tells_written {
        true => pool.pagemap_scan(Enabled::Yes).linear_memory_keep_resident(limits::GUEST_MEMORY_KEPT_BYTES),
        false => pool.linear_memory_keep_resident(limits::GUEST_MEMORY_KEPT_BLINDLY_BYTES),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_cannot_be_had_falls_back() {
        // A million instances need 8 PiB of address space, more than 47 bits give.
        let engine = start(1 << 20).unwrap();
        assert!(engine.pooling_allocator_metrics().is_none());
        assert!(start(4).unwrap().pooling_allocator_metrics().is_some());
    }
}
