"""The road between the TUN and the UDP socket."""
