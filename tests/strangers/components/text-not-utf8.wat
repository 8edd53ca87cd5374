;; === code
    (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
    (func (export "handle") (param i32) (result i32)
      (i32.store8 (i32.const 8192) (i32.const 255))
      (call $log (i32.const 2) (i32.const 8192) (i32.const 1) (i32.const 0) (i32.const 0))
      (i32.const 1024))
