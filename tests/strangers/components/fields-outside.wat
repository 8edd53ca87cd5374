;; === code
    (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
    (func (export "handle") (param i32) (result i32)
      (call $log (i32.const 2) (i32.const 1152) (i32.const 7) (i32.const 0) (i32.const 268435455))
      (i32.const 1024))
