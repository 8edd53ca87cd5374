;; === code
    (table $table 1 funcref)
    (func (export "handle") (param i32) (result i32)
      (loop $on
        (if (i32.eq (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1)) (then (unreachable)))
        (br $on))
      (unreachable))
