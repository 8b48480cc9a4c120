# From 1 GiB to 2 TiB, emulated in a machine of 1 GiB or a little more. HOW: parameters of the module.
. /lib.sh
played size.1g size 1 "" $HOW
played size.64g size 64 "" $HOW
played size.2t size 2048 "" $HOW
