# 2 TiB emulated in a machine of 1 GiB.
. /lib.sh
played large large 2048 ""
