;; One thing to wait for, named 400,000 times in each call.
;; === code
    (import "host" "stdout" (func $stdout (result i32)))
    (import "host" "subscribe" (func $subscribe (param i32) (result i32)))
    (import "host" "poll" (func $poll (param i32 i32 i32)))
    (func (export "handle") (param i32) (result i32)
      (local $one i32) (local $at i32)
      (drop (memory.grow (i32.const 32)))
      (local.set $one (call $subscribe (call $stdout)))
      (local.set $at (i32.const 131072))
      (loop $on
        (i32.store (local.get $at) (local.get $one))
        (local.set $at (i32.add (local.get $at) (i32.const 4)))
        (br_if $on (i32.lt_u (local.get $at) (i32.const 1731072))))
      (loop $again (call $poll (i32.const 131072) (i32.const 400000) (i32.const 2048)) (br $again))
      (unreachable))
