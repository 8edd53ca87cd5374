;; With all the memory that a handler may have: a gigabyte in one call.
;; === code
    (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
    (func (export "handle") (param i32) (result i32)
      (drop (memory.grow (i32.const 16382)))
      (call $log (i32.const 2) (i32.const 8192) (i32.const 1073733632) (i32.const 0) (i32.const 0))
      (i32.const 1024))
