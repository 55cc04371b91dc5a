"""S-inhibition heads tell the name movers which name not to look at.

As naive; and the queries of the name movers read what the S-inhibition heads 7.3, 7.9, 8.6 and 8.10 write at the
end: by their values, the name at S2, the second time that the giver is named. The keys of the name movers read the
names. Where the S-inhibition heads look (S2, as published) is the other prompt's: that place is the same in both.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  **/a*.mover/v       by positions IO
            **/a*.mover/k       by positions IO,S1,S2
            **/a*.inhibition/v  by positions S2
    answer  **                                             -> y
            **/a*.mover/v[IO]/**                           -> x
            **/a*.mover/k[IO,S1,S2]/**                     -> x
            **/a*.mover/q/**/a*.inhibition/v[S2]/**        -> x
            **/a*.mover/q/**/a*.inhibition/v[S2]/**/a*/**  -> y
            **/a*/**/a*.mover/**                           -> y
            **/a*.mover/{k*,v*}/**/a*/**                   -> y
            **/a*.mover/q/**/a*/**/a*.inhibition/**        -> y
    """
)
