;; It says that the room lies behind the end of the memory.
;; === memory
    (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const -16))
