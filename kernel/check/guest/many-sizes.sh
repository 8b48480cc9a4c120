# 64 CPUs, from 1 GiB to 2 TiB.
. /lib.sh
played many.1g size 1 ""
played many.64g size 64 ""
played many.2t size 2048 ""
