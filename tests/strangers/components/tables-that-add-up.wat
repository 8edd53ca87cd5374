;; Each is within what one may have; all of them are not.
;; === more
  (core module $one (table 15000 funcref))
  (core instance (instantiate $one))
  (core instance (instantiate $one))
