;; === code
    (func (export "handle") (param i32) (result i32)
      (i32.const -8))
