;; === code
    (func (export "handle") (param i32) (result i32)
      (local $page i32)
      ;; Page by page, each written to, until there is no more; then as an allocator ends.
      (loop $on
        (local.set $page (memory.grow (i32.const 1)))
        (if (i32.eq (local.get $page) (i32.const -1)) (then (unreachable)))
        (memory.fill (i32.shl (local.get $page) (i32.const 16)) (i32.const 1) (i32.const 65536))
        (br $on))
      (unreachable))
