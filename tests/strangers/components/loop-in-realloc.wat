;; While the event is being handed over.
;; === memory
    (memory (export "memory") 2)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (loop $on (br $on)) (unreachable))
