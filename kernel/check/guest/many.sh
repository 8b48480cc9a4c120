# 64 CPUs.
. /lib.sh
played many.life life 16 ""
played many.v10 v10-64 16 --hardware policy=v10
played many.lives lives 64 ""
