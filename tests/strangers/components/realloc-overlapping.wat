;; All rooms are one. That hurts nobody but itself.
;; === memory
    (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8192))
