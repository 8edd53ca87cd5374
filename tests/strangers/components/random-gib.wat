;; === code
    (import "host" "random" (func $random (param i64 i32)))
    (func (export "handle") (param i32) (result i32)
      (call $random (i64.const 1073741824) (i32.const 2048))
      (i32.const 1024))
