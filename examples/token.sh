# Makes an account, the domain acme and a token to try the examples with, and sets
# PATROL_TOKEN. To be read by a shell, in the folder from which `patrol serve` runs:
#
#   . ../token.sh

email=ada-$$@example.com
password=$(head -c 18 /dev/urandom | base64)
echo "$password" | patrol user create "$email" --password-stdin
patrol domain create acme --name Acme || true # it may be there
patrol member set acme "$email" member
echo "$password" | patrol login "$email" --password-stdin
PATROL_TOKEN=$(patrol pat create --name example --expires-in 1d --scope acme:models:*:read --scope acme:models:*:execute)
export PATROL_TOKEN
