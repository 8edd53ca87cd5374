;; A million fields that all lie at one place: 16 MB in the guest, two gigabytes by the time the host has copied them.
;; === code
    (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
    (func (export "handle") (param i32) (result i32)
      (local $at i32)
      (drop (memory.grow (i32.const 256)))
      (local.set $at (i32.const 131072))
      (loop $on
        (i32.store offset=0 (local.get $at) (i32.const 65536))
        (i32.store offset=4 (local.get $at) (i32.const 1024))
        (i32.store offset=8 (local.get $at) (i32.const 65536))
        (i32.store offset=12 (local.get $at) (i32.const 1024))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br_if $on (i32.lt_u (local.get $at) (i32.const 16131072))))
      (call $log (i32.const 2) (i32.const 1152) (i32.const 7) (i32.const 131072) (i32.const 1000000))
      (i32.const 1024))
