;; One instruction writes to 48 MiB, and nothing interrupts it.
;; === code
    (func (export "handle") (param i32) (result i32)
      (drop (memory.grow (i32.const 766)))
      (loop $on
        (memory.fill (i32.const 65536) (i32.const 1) (i32.const 50266112))
        (br $on))
      (unreachable))
