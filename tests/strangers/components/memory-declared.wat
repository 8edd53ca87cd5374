;; 900 MiB, before the first instruction.
;; === memory
    (memory (export "memory") 14400)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
