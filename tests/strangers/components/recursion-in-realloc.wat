;; === memory
    (memory (export "memory") 2)
    (func $realloc (export "realloc") (param i32 i32 i32 i32) (result i32)
      (i32.xor (call $realloc (local.get 3) (local.get 2) (local.get 1) (local.get 0)) (local.get 3)))
