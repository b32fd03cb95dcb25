"""A PulseAudio server of its own, with null sinks as microphone and loudspeaker."""



PROGRAMS = ("pulseaudio", "pactl", "paplay", "parec")
ASOUND = """
pcm.!default { type pulse }
ctl.!default { type pulse }
pcm.microphone { type pulse device microphone.monitor }
pcm.loudspeaker { type pulse device loudspeaker }
pcm.headphones { type pulse device headphones }
"""
