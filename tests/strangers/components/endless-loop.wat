;; === code
    (func (export "handle") (param i32) (result i32)
      (loop $on (br $on))
      (unreachable))
