module uthreads

go 1.19
