;; It exports nothing that we know: none of the parts is put into it.
;; === whole
(component)
