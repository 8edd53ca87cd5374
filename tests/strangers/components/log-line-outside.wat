;; === code
    (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
    (func (export "handle") (param i32) (result i32)
      (call $log (i32.const 2) (i32.const 8192) (i32.const 1073741824) (i32.const 0) (i32.const 0))
      (i32.const 1024))
