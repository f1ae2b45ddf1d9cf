"""What several tests share: photos, folders, networks and servers made for them."""
