;; 10,000 of them; then it gives up.
;; === code
    (import "host" "send" (func $send (param i32 i32)))
    (func (export "handle") (param i32) (result i32)
      (local $left i32)
      (local.set $left (i32.const 10000))
      (loop $on
        (call $send (i32.const 1280) (i32.const 2048))
        (br_if $on (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (i32.const 1088))
