;; === memory
    (memory (export "memory") 32768)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
