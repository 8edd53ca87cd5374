;; As much as is given, again and again, into one place.
;; === memory
    (memory (export "memory") 20)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
;; === code
    (import "host" "random" (func $random (param i64 i32)))
    (func (export "handle") (param i32) (result i32)
      (loop $on (call $random (i64.const 1000000) (i32.const 2048)) (br $on))
      (unreachable))
