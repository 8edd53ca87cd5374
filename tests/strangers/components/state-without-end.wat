;; A key that is new each time.
;; === code
    (import "host" "set" (func $set (param i32 i32 i32 i32 i32 i64 i32)))
    (func (export "handle") (param i32) (result i32)
      (loop $on
        (i32.store (i32.const 8192) (i32.add (i32.load (i32.const 8192)) (i32.const 1)))
        (i32.store (i32.const 8196) (i32.or (i32.and (i32.load (i32.const 8192)) (i32.const 252645135)) (i32.const 1077952576)))
        (call $set (i32.const 8196) (i32.const 4) (i32.const 65536) (i32.const 1024) (i32.const 0) (i64.const 0) (i32.const 2048))
        (br $on))
      (unreachable))
