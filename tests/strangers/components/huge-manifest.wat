;; A description of 16 MiB.
;; === describe
    (func (export "describe") (result i32)
      (drop (memory.grow (i32.const 257)))
      (i32.store (i32.const 80) (i32.const 65536))
      (i32.store (i32.const 84) (i32.const 16777216))
      (i32.const 64))
    (data (i32.const 64) "\00\01\00\00\08\00\00\00" "\10\01\00\00\01\00\00\00")
    (data (i32.const 256) "stranger")
    (data (i32.const 272) "1")
