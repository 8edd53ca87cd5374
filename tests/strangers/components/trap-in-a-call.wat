;; The call is made, and there is no room for its answer: the trap comes while it is in flight.
;; === memory
    (memory (export "memory") 2)
    (global $next (mut i32) (i32.const 8192))
    (global (export "armed") (mut i32) (i32.const 0))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (if (global.get 1) (then (unreachable)))
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (local.get $at))
;; === code
    (import "host" "send" (func $send (param i32 i32)))
    (import "memory" "armed" (global $armed (mut i32)))
    (func (export "handle") (param i32) (result i32)
      (global.set $armed (i32.const 1))
      (call $send (i32.const 1280) (i32.const 2048))
      (i32.const 1024))
