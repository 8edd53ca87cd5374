;; === code
    (func $start (loop $on (br $on)))
    (start $start)
    (func (export "handle") (param i32) (result i32) (i32.const 1024))
