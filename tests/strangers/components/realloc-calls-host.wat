;; The host hands something over, and is asked for something meanwhile. The function comes by way of a table.
;; === memory
    (memory (export "memory") 2)
    (table (export "table") 1 funcref)
    (type $f (func (param i32)))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (call_indirect (type $f) (i32.const 2048) (i32.const 0))
      (i32.const 8192))
;; === code
    (import "host" "all" (func $all (param i32)))
    (import "memory" "table" (table 1 funcref))
    (elem (i32.const 0) func $all)
    (func (export "handle") (param i32) (result i32) (i32.const 1024))
