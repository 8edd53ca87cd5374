;; A note of 16 MiB.
;; === code
    (func (export "handle") (param i32) (result i32)
      (drop (memory.grow (i32.const 257)))
      (i32.store (i32.const 1036) (i32.const 1))
      (i32.store (i32.const 1040) (i32.const 65536))
      (i32.store (i32.const 1044) (i32.const 16777216))
      (i32.const 1024))
