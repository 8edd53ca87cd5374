;; === code
    (func (export "handle") (param i32) (result i32) (i32.const 1024))
    (func (export "post-return") (param i32) (unreachable))
