;; 100,000 event types.
;; === describe
    (func (export "describe") (result i32)
      (drop (memory.grow (i32.const 16)))
      (i32.store (i32.const 88) (i32.const 131072))
      (i32.store (i32.const 92) (i32.const 100000))
      (i32.const 64))
    (data (i32.const 64) "\00\01\00\00\08\00\00\00" "\10\01\00\00\01\00\00\00")
    (data (i32.const 256) "stranger")
    (data (i32.const 272) "1")
