;; The start function behaves while the plugin is described, when the settings are `{}`, and loops afterwards.
;; === code
    (import "host" "all" (func $all (param i32)))
    (func $start
      (call $all (i32.const 2048))
      (if (i32.gt_u (i32.load (i32.const 2052)) (i32.const 2)) (then (loop $on (br $on)))))
    (start $start)
    (func (export "handle") (param i32) (result i32) (i32.const 1024))
