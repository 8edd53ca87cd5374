;; === code
    (func (export "handle") (param i32) (result i32)
      (local $spins i32) (local $page i32)
      (loop $on
        (local.set $spins (i32.const 4000000))
        (loop $spin (br_if $spin (local.tee $spins (i32.sub (local.get $spins) (i32.const 1)))))
        (local.set $page (memory.grow (i32.const 1)))
        (if (i32.ne (local.get $page) (i32.const -1))
          (then (memory.fill (i32.shl (local.get $page) (i32.const 16)) (i32.const 1) (i32.const 65536))))
        (br $on))
      (unreachable))
