;; 65,000 of them in one request, all empty.
;; === code
    (import "host" "send" (func $send (param i32 i32)))
    (func (export "handle") (param i32) (result i32)
      (drop (memory.grow (i32.const 32)))
      (i32.store (i32.const 1300) (i32.const 65536))
      (i32.store (i32.const 1304) (i32.const 65000))
      (call $send (i32.const 1280) (i32.const 2048))
      (i32.const 1088))
