# ruff: noqa: E501 (patterns and word lists stay on one line)
"""The frames of English questions: politeness that says nothing, and openings that say what is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Frame:
    """An opening, the kind of question it makes, what stays of it, and the modal it holds."""

    kind: str
    pattern: re.Pattern[str]
    leaves: str = ""
    modal: str = ""


_ME = r"(?:(?:to )?(?:me|us) ?)?"
_ASK = r"(?:tell|inform|advise|remind|show|give|let) (?:me|us)(?: (?:know|understand|a hand))?(?: (?:about|if you know|please|kindly))?"
_I = r"(?:i|we|you|one|someone|somebody|anyone|people|a person)"
POLITE_START = re.compile(
    r"^(?:hi(?: there| all| team)?|hello(?: there| all| team)?|hey(?: there| all| team| guys)?|dear (?:all|team|sir|madam|hr|assistant|colleagues)|good (?:morning|afternoon|evening|day)(?: all| team| everyone)?|greetings|morning(?=,)|afternoon(?=,)"
    r"|(?:just |only )?(?:a )?(?:quick|small|short|simple|random|silly|stupid|dumb|basic|general) (?:question|one|q|query)(?: about| on| for you)?|(?:my|the) question is(?: about)?"
    r"|(?:i|we) (?:was|were|am|are) (?:just )?hoping (?:that )?(?:you|someone|somebody|anyone) (?:could|can|might|would be able to) (?:tell|explain to|show|let) (?:me|us)(?: know)?|hoping (?:someone|somebody|you) can (?:tell|show) (?:me|us)"
    r"|(?:would|are|will) you (?:be )?able to (?:tell|explain to|show|let) (?:me|us)(?: know)?|any chance you (?:could|can|know) ?(?:tell|explain to|show|let)? ?(?:me|us)?(?: know)?"
    r"|(?:i|we)(?: would|'d)? (?:be )?(?:grateful|happy|glad) if you (?:could|can|would) (?:tell|explain to|show|let) (?:me|us)(?: know)?|i (?:would |'d )?appreciate it if you (?:could|would) (?:tell|explain to|show|let) (?:me|us)(?: know)?"
    r"|(?:i|we) (?:just |quickly |only )?(?:want|wanted|need|needed|would like|wish) to (?:quickly |just )?(?:check|ask|know|confirm|find out|clarify|double-check|understand)(?: about| with you)?|(?:just )?(?:checking|asking|trying to (?:find out|figure out|understand|work out))(?= how| what| where| when| who| if| whether| why)|i (?:keep|always) (?:forgetting|forget)(?= how| what| where| when| who)"
    r"|(?:i|we) (?:forgot|forget|have forgotten|can not remember|do not remember|can not recall|have no idea|have no clue|can not find out|can not find|do not understand|am not certain|need help (?:with|on)|am unclear|am confused about|am lost)(?= how| what| where| when| who| why| which)"
    r"|out of (?:interest|curiosity)|for (?:future )?reference(?=,| how| what| where| when| who)|if (?:i|one) may ask|if you (?:do not|would not) mind(?: me asking)?|do me a favou?r and tell me|help me out"
    r"|what (?:is|would be) your (?:answer|advice) (?:to|on)|could someone please|someone please|can (?:some|any)(?:one|body) please"
    r"|please|pls|kindly|thanks|thank you|excuse me|sorry(?: to bother you)?|quick question|(?:just )?(?:wondering|curious)"
    r"|ok|okay|so|well|um|by the way|btw|also|and|but|question|basically|just"
    r"|(?:i have|i've got|i have got) (?:a|one) (?:quick )?question(?: about)?"
    r"|(?:can|could|would|will) (?:you|someone|somebody|anyone|anybody)(?: please| kindly| possibly)? "
    rf"(?:{_ASK}|clarify|(?=explain|describe|list|define|help|guide|walk))"
    r"|would you mind (?:telling|explaining to|showing|letting) (?:me|us)(?: know)?"
    r"|(?:do|would|did) (?:you|anyone|anybody|someone)(?: happen to| perhaps)? know(?: about)?"
    r"|does any(?:one|body)(?: here)?(?: happen to)? know"
    r"|(?:i|we)(?: would| d|'d)?(?: really| just)? (?:like|want|need|wish|love|am trying|have|be interested)(?: to| in) (?:know|find out|finding out|understand|learn|ask|check|knowing|learning|understanding)(?: about| more about)?"
    r"|(?:i am|we are|i was|was) (?:just )?(?:wondering|curious|interested)(?: about| to know| in knowing| if you (?:know|could tell me))?"
    r"|(?:i|we) wonder(?: if you could tell me)?"
    r"|any(?: idea| ideas| clue)(?: on| about| of)?|(?:do )?you know|is it known"
    rf"|(?:may|can|could|might) (?:i|we) (?:ask|know|check)(?: you)?(?: about)?|{_ASK}"
    r"|let us say|in general|generally speaking|i (?:do not|am not sure|am unsure|can not figure out|can not remember) (?:know )?(?=how|what|where|when|why|who)"
    r"|(?:i am not sure|i am unsure|not sure|no idea) (?=how|what|where|when|why|who|which)"
    r"|help(?: me)?(?: (?:to )?understand)(?: about)?|(?:it is )?(?:unclear|not clear)(?: to me)?(?= how| what| where| when| why| who)"
    r"|remind me(?: of)?|what is it called when|in (?:your|our) (?:opinion|company|organisation|organization|firm)|around here|here|at (?:our|this|the) (?:company|firm|organisation|organization|workplace)(?= ?,))\b[ ,.;:!-]*"
)
POLITE_END = re.compile(
    r"[ ,.;:!-]*\b(?:please|pls|thanks|thank you(?: very much| so much)?|many thanks|cheers|in advance|for me|exactly|actually|precisely"
    r"|if i may ask|if you know|by the way|btw|again|anyway|do you know|can you help(?: me)?|could you help(?: me)?|any ideas?|any help"
    r"|(?:can|could) you (?:tell|explain) (?:me|this|it)(?: to me)?|i wonder|i am wondering|how (?:do|can|should|would) i (?:do|go about|achieve) (?:that|this|it)"
    r"|(?:can|could|would) (?:you|someone|anyone|anybody|somebody) (?:please )?(?:advise|help|explain|tell me|let me know|assist|clarify|confirm)(?: me)?(?: please)?|do you happen to know|does any(?:one|body) know|any(?:one|body) know|please (?:advise|help|explain|tell me|let me know|confirm)|let me know|tell me|i (?:would like|want|need) to know(?: that| this)?|much appreciated|thx|ty|tia|kind regards|regards|asap|all of a sudden|then|again please|roughly speaking|if i might ask|if you (?:do not|would not) mind(?: me asking)?|just (?:wondering|curious|checking)|out of (?:interest|curiosity)|hi|hello"
    r"|what (?:do|should|can) i do|right now|these days|at the moment|currently|today's world|nowadays)$"
)
_BEST = r"(?:(?:best|right|correct|proper|recommended|usual|standard|good|easiest|simplest|official|appropriate|normal|actual|exact|basic|main|general|necessary|required) )?"
_WAY = r"(?:way|ways|method|methods|procedure|procedures|process|processes|steps|step|approach|instructions|workflow|how-to)"


def _k(kind: str, pattern: str, leaves: str = "", modal: str = "") -> Frame:
    return Frame(kind, re.compile(pattern), leaves, modal)


_HAVE = r"(?:have|cause|contain|include|get|receive|take|need|use|offer|provide|give)"
_OWNED = (
    r"(?:inventor|founder|author|writer|creator|discoverer|owner|winner|director|composer|painter|producer|designer)"
)
KINDS = (
    _k("who", rf"^(?:who|what (?:is|was) the name of|what person|which person)(?: (?:is|was|were|are))?(?: the)? ({_OWNED})s? (?:of|behind)\b", r"\1_does"),
    _k("population", r"^(?:how many (?:people|inhabitants|residents) (?:live|reside|are there|are living)(?: in)?|(?:what is |what was )?the population (?:size )?of|how (?:large|big) is the population of)\b"),
    _k("population", r"^what (?:is|was) (.+?)(?: 's)? population$|^how many people does (.+?) have$", r"\1"),
    _k("how-much", r"^how much (?:does|do|would|will|did) (?:it cost|i have to pay|i need to pay|i pay|we pay|one pay)(?: to| for)?\b", ""),
    _k("how-much", r"^(?:what|how much) (?:does|do|will|would|did) (.+?) costs?\b", r"\1"),
    _k("what", rf"^(?:what|which) (?!is |are |was |were |time|year|day|date)(.+?) (?:does|do|did|can|will) (.+?) {_HAVE}$", r"\1 of \2"),
    _k("how-long", r"^(?:what (?:is|are|was) )?(?:the )?(delivery|shipping|processing|waiting|response|travel|lead|cooking|turnaround) time(?:s)? (?:for|to|of)\b", r"\1"),
    _k("how-long", r"^how many (days|weeks|hours|minutes|months) (?:does|do|will|would|did) (?:it|this)(?: usually| typically)? (?:take|need)(?: for| to)?\b", r"\1"),
    _k("how-long", r"^(?:for )?how long (?:does|do|will|would|is|are|was|did) (.+?)(?: 's)?(?: (?:period|duration|take|last|valid for|valid|run|time))?$", r"\1"),
    _k("how-long", r"^what (?:is|was) the (?:length of the |duration of the )?(.+?) period(?: for| of| on)?\b", r"\1"),
    _k("differ", r"^(?:what (?:is|are)|tell me|explain|describe) the (?:main |key )?(?:differences?|distinctions?) (?:between|of)\b"),
    _k("differ", r"^how (?:do|does|are|is) (.+?) (?:different from|distinguished from|different|differ from|differ)\b(.*)$", r"\1 and \2"),
    _k("differ", r"^what (?:distinguishes|differentiates) (.+?) from\b", r"\1 and"),
    _k("when", r"^(?:what is )?the (?:deadline|due date|cut-off date|cutoff date|closing date|last day) (?:for|to|of)\b", "deadline"),
    _k("when", r"^(?:by when|until when|by what date) (?:must|should|do|does|can|have|need) (?:i |we |one |employees )?(?:have to |need to )?", "deadline"),
    _k("when", r"^when (?:is|are) (.+?) due$", r"deadline \1"),
    _k("when", r"^(?:what (?:is|was) )?the (release|publication|start|end|delivery|arrival|departure|founding|launch|expiry|expiration) (?:date|time) (?:of|for)\b", r"\1"),
    _k("what", r"^(?:what|which) (?:city|town|place|country|person|company|thing|number|value|one) (?:is|was) the\b"),
    _k("what", r"^what (?:is|are) (?:the )?(?:name|names) of\b"),
    _k("when", r"^(?:what (?:is|are) )?(?:the |your )?((?:opening|business|operating|office|visiting|service|working|consultation|trading) (?:hours|times)) (?:of|for|at|in)\b", r"\1 of"),
    _k("when", r"^what (?:is|are) (?:the |your )?(.+? (?:opening|business|operating|office|visiting|service|trading) (?:hours|times))\b", r"\1"),
    _k("when", r"^when (?:is|are) (?:the )?(.+?) open\b(?! to | for | day)", r"\1 opening hours"),
    _k("what-time", r"^(?:what (?:is|are) )?(?:the )?(closing|opening|starting|finishing|check-in|check-out|departure|arrival|boarding) times? (?:of|for|at)\b", r"\1"),
    _k("what-time", r"^(?:what (?:is|are) )?(?:the )?(.+? (?:closing|opening|starting|finishing|check-in|check-out|departure|arrival|boarding)) times?\b", r"\1"),
    _k("what", r"^(?:which|what) (\w+) (?:is|are) the (\w+est|most \w+)\b", r"\2 \1"),
    _k("consequence", r"^what (?:happens|will happen|would happen|occurs|will occur)(?: to (?:me|us))? (?:if|when|in case)\b"),
    _k("consequence", r"^what (?:is|are|will be|would be) the (?:consequences?|results?) (?:of|for|if|when)\b"),
    _k("who", r"^(?:who|which person) (?:is|are|was) (?:responsible|in charge|accountable) (?:for|of)\b"),
    _k("where", r"^where (?:is|are|was|were) (.*?) (?:located|situated|to be found|found)$", r"\1"),
    _k("yes-no", r"^(?:is|are) (?!there|it |i |we )(.{1,60}?) (?:allowed|permitted|possible|acceptable|permissible)\b(?: to)?(?! by)", r"\1", "can"),
    _k("yes-no", r"^(?:is|are) (?!there|it |i |we )(.{1,60}?) (?:required|obliged|obligated|mandatory|compulsory|necessary|obligatory|needed)\b(?: to)?(?! by)", r"\1", "must"),
    _k("yes-no", rf"^(?:do|does) {_I} (?:need|require) (?!to\b)", "", "must"),
    _k("yes-no", r"^(?:do|does) (.{1,40}?) (?:have|need) to\b", r"\1", "must"),
    _k("why", r"^what (?:causes|leads to|brings about|makes)\b"),
    _k("differ", r"^(?:the )?(?:main |key )?(?:differences?|distinctions?) (?:between |of )?\b"),
    _k("differ", r"^(.+? (?:and|vs|versus|or) .+?) (?:differences?|distinctions?)$", r"\1"),
    _k("differ", r"^(?!is |are |does |do |can )(.+?) (?:vs|versus) (.+?)$", r"\1 and \2"),
    _k("differ", r"^(?:can you |could you |please )?(?:compare|contrast) (.+?) (?:and|with|to|vs|versus) (.+?)$", r"\1 and \2"),
    _k("how-many", r"^(?:count|number) of\b"),
    _k("who", r"^by whom\b"),
    _k("who", r"^(.+?) by whom$", r"\1"),
    _k("whom", r"^(?:to|for|with|from|by|about|at) whom\b"),
    _k("why", r"^(?:what are|what is|list|name) (?:the |some )?(?:common |main |possible )?(?:causes?|reasons?) (?:of|for|behind)\b"),
    _k("what-to-do", rf"^what (?:should|can|do|must|could|shall|would) {_I}(?: have to| need to)? do (?:if|when|in case|after|once|about|in the event(?: that| of)?)\b"),
    _k("what-to-do", rf"^how (?:should|can|do|could) {_I} (?:react|respond|proceed) (?:if|when|in case|after|once)\b"),
    _k("how", rf"^(?:what|which) (?:is|are|would be) (?:the |a |some |my )?{_BEST}{_WAY} (?:(?:to take |to follow |involved |required |needed )?(?:to|for|of|in|when)|(?:that )?{_I} (?:can |should |could |must |need to |have to )?(?:use|take|follow)(?: to| for)?|{_I} (?:can|should|could|must))\b"),
    _k("how", rf"^(?:what|which) {_BEST}{_WAY} (?:do|does|should|can|must|would|are|is|will)(?: {_I})?(?: need| have)?(?: to)? ?(?:be )?(?:take|taken|follow|followed|use|used|involved|required|needed|go through|complete)?(?: to| in| for| when| in order to)?\b"),
    _k("how", rf"^(?:what|which) (?:is|are|would be) (?:the |a |some |my |our |your |this )?{_BEST}(?!way|method|procedure|process|step)([^,]+?) (?:procedure|process|steps|workflow|instructions)(?: (?:for|of|like|here|look like|called))?\b", r"\1 "),
    _k("how", rf"^(?:explain|describe|outline|show(?: me| us)?|give (?:me|us)|walk me through|guide me through|tell me about) (?:the |a |some |our |your )?{_BEST}([^,]+?) (?:procedure|process|steps|workflow|instructions)\b", r"\1"),
    _k("how", rf"^what (?:do|should|must|can|could|does|would) {_I} (?:need to |have to |got to )?do (?:to|in order to|if (?:i|we) want to|so (?:that )?i can)\b"),
    _k("how", r"^what (?:is|are) (?:needed|required|involved|necessary) (?:to|in|for) (?=\w+ing\b)"),
    _k("how", rf"^(?:is there|are there|do you have|does there exist) (?:a|an|any|some) {_BEST}(?:way|ways|method|methods|possibility|option|options|procedure|instructions)s? (?:to|of|for (?:me|us) to|{_I} can|that {_I} can|for)\b"),
    _k("how", rf"^(?:in )?(?:what|which) way (?:can|do|should|could) {_I}\b"),
    _k("how-many", r"^(?:(?:for|after|within|in|at|of|from|with|by) )?how many(?: different)?\b"),
    _k("how-many", r"^(?:what (?:is|are|was|were) )?the (?:total |exact |approximate )?(?:number|count|quantity) of\b"),
    _k("how-long", r"^how (?:long|much time|many time)(?: (?:will|would|does|do|did|should) it (?:usually |typically |normally |generally )?(?:take|need))?(?: for| to)?\b"),
    _k("how-long", r"^(?:what (?:is|are|was) )?the (?:total |typical |usual |normal |average )?(?:duration|length|time frame|timeframe) (?:of|for)\b"),
    _k("how-often", r"^(?:how (?:often|frequently)|at what (?:frequency|interval|intervals)|(?:what is )?the frequency of|with what frequency)\b"),
    _k("how-far", r"^how far(?: away)?\b|^what is the distance\b"),
    _k("how-much", r"^how much (?:does|do|would|will|did|is|are|was)(?: it)?(?= .*\bcosts?$| .*\bcosts?\b)"),
    _k("how-much", r"^(?:what (?:does|do|will|would)|how much (?:does|do|will|would)) (.+?) costs?$", r"\1"),
    _k("how-much", r"^how much (?:is|are) (?:the )?(?=[\w ]*(?:price|cost|fee|salary|pay))"),
    _k("how-much", r"^how much (?:is|are) (?:charged|the charge|it) (?:for|to)\b"),
    _k("how-much", r"^(?:what (?:is|are|was) )?(?:the )?(?:current )?(?:price|cost|costs|fee|charge)s? (?:of|for|to)\b"),
    _k("how-much", r"^how much(?: money)?\b"),
    _k("how-much", r"^(?:what (?:is|are|was) )?the (?:total )?(?:amount) of\b"),
    _k("how-old", r"^how old\b|^(?:what is )?the age of\b"),
    _k("how-big", r"^how (?:big|large)\b|^(?:what is )?the size of\b"),
    _k("how-high", r"^how (?:tall|high)\b|^(?:what is )?the height of\b"),
    _k("how-deep", r"^how deep\b|^(?:what is )?the depth of\b"),
    _k("how-heavy", r"^how heavy\b|^how much does (.*) weigh$|^(?:what is )?the weight of\b", r"\1"),
    _k("how-fast", r"^how (?:fast|quickly)\b|^(?:what is )?the speed of\b"),
    _k("how-hot", r"^how (?:hot|warm)\b|^(?:what is )?the temperature of\b"),
    _k("why", r"^how come\b|^(?:for )?what reasons?\b|^explain why\b|^the reasons? (?:why|for|that)\b|^why\b"),
    _k("why", r"^what (?:is|are|was|were) (?:the |a )?(?:main |primary |underlying |possible |likely )?(?:reasons?)(?: why| that| for| behind)?\b"),
    _k("how", rf"^how (?:do|can|could|should|would|might|may|must|does|will|shall|am|are|did) {_I}\b(?: (?:be able to|go about|manage to|possibly|best|actually|successfully|supposed to|able to|need to|have to))?"),
    _k("how", r"^how to(?: go about)?\b"),
    _k("how", rf"^(?:the |a |some )?{_BEST}(?:steps|ways|way|procedure|process|instructions|guide|tips|guidance|guidelines) (?:to|for|of|on)\b"),
    _k("how", r"^(?:help(?: me)?(?: to)?|show (?:me )?how (?:to|i can)|teach me(?: how)?(?: to)?|explain (?:to me )?how (?:to|i can|do i|we can)|(?:guide|walk|take|talk) (?:me|us) (?:through|on|in)(?: how to| the steps (?:to|for|of)| the process (?:of|for))?|assist me (?:in|with)|give me (?:the )?(?:steps|instructions) (?:to|for|on)|describe (?:the (?:process|steps|procedure) (?:of|for|to)|how to))\b"),
    _k("how", r"^(?:i|we) (?:want|need|would like|wish|am trying|are trying|am looking|hope|intend|plan|have) to\b"),
    _k("how", r"^how (?:is|are|was|were) (?=.*\w+ed$)"),
    _k("how", r"^(?:explain|describe) how\b|^in what way\b|^how (?:does|do|did|is|are|was|were|can|will|would|should)?\b"),
    _k("what-time", r"^(?:at |from )?(?:what|which) time(?: of day)?\b|^what hours?\b|^(?:what is )?the time (?:of|for)\b"),
    _k("what-date", r"^(?:on )?(?:what|which) (?:date|day)\b|^(?:what (?:is|was) )?the (?:exact )?date (?:of|for|when|on which)\b"),
    _k("what-year", r"^(?:in )?(?:what|which) year\b|^(?:what (?:is|was) )?the year (?:of|in which|when|that)\b"),
    _k("when", r"^when\b|^what is the (?:schedule|timing) (?:of|for)\b|^by when\b"),
    _k("where", r"^where(?: exactly)?(?: (?:can|could|do|should|would|may|might|must) (?:i|we|you|one|someone|people)(?: go to| find)?)?(?: (?:is|are|was|were) (?:.*)(?= located$))?\b"),
    _k("where", r"^(?:in |at |from )?(?:what|which) (?:place|location|spot)\b|^(?:what is )?the location of\b"),
    _k("who", r"^(?:who|whom)(?: (?:is|was|are|were) (?:the )?(?:person|people|one|individual)(?: (?:who|that))?)?\b|^(?:what|which) person\b|^(?:what (?:is|was) )?the name of the (?:person|man|woman|individual) (?:who|that)\b"),
    _k("whose", r"^whose\b"),
    _k("what", r"^what (?:does|do) (.+?) (?:mean|stand for|signify)$", r"\1"),
    _k("what", r"^(?:what (?:is|are) )?(?:the )?(?:meaning|definition) (?:of|behind)\b|^define\b|^what (?:is|are) meant by\b"),
    _k("what", r"^(?:explain|describe|introduce|tell me about|give (?:me )?(?:an? |some )?(?:overview|description|summary|explanation|introduction|information|info|details|idea)(?: of| on| about| to)?)(?: (?:to me )?what)?(?: is| are)?\b"),
    _k("what", r"^(?:list|name|enumerate)(?: (?:all|out))?(?: the)?\b"),
    _k("what", r"^(?:what|which)(?: (?:is|are|was|were|kind of|type of|sort of|kinds of|types of))?\b"),
    _k("yes-no", r"^(?:is|are|am|was|were) (?:it|i|we|you|one|there)? ?(?:allowed|permitted|possible|able|ok|okay|acceptable|fine|legal|allowable|permissible)(?: for (?:me|us|you|someone|people|one))?(?: to)?\b", "", "can"),
    _k("yes-no", rf"^(?:can|could|may|might)\b(?: {_I}\b)?", "", "can"),
    _k("yes-no", rf"^(?:do|does|did) (?:{_I} )?(?:have to|need to)\b|^(?:must) (?:{_I}\b)?|^is it (?:necessary|required|mandatory|compulsory|obligatory|needed)(?: for (?:me|us|you|someone|people|one))?(?: to)?\b|^(?:am i|are we|is one|are you) (?:required|obliged|obligated|expected) to\b", "", "must"),
    _k("yes-no", rf"^(?:should|ought) (?:{_I}\b)?(?: to)?|^is it (?:advisable|recommended|a good idea|wise)(?: for (?:me|us|you|someone|people|one))?(?: to)?\b|^(?:am i|are we) supposed to\b", "", "should"),
    _k("yes-no", rf"^(?:will|would|shall) (?:{_I}\b)?", "", ""),
    _k("yes-no", r"^(?:if|whether) (?:it is possible to|i can|i may|we can|you can|one can|i am allowed to)\b", "", "can"),
    _k("yes-no", r"^(?:if|whether)\b|^(?:is it (?:true|the case|correct|right) that)\b"),
    _k("yes-no", rf"^(?:do|does|did|is|are|was|were|am|has|have|had)\b(?: not\b)?(?: {_I}\b)?(?: there\b)?"),
    _k("how", rf"^(.+?),? (?:how[- ]?to|how (?:can|do|should|would) {_I}(?: do (?:it|this|that))?|(?:procedure|process|steps|instructions|workflow|tutorial)(?: please| needed| required| to follow)?)$", r"\1"),
    _k("how-long", r"^(.+?),? (?:how long|(?:processing |waiting |lead |turnaround )?duration|time needed|time required)(?: does it take| is it| will it take)?$", r"\1"),
    _k("how-much", r"^(.+?),? how much(?: does it cost| is it| will it cost)?$", r"\1"),
    _k("who", r"^(.+?),? (?:who|responsible person|person responsible|person in charge)$", r"\1"),
    _k("where", r"^(.+?),? (?:where|location)(?: is it| are they| can i find it| to find it)?$", r"\1"),
    _k("when", r"^(.+?),? when(?: is it| are they)?$", r"\1"),
    _k("how-often", r"^(.+?),? (?:how often|frequency)$", r"\1"),
    _k("what", r"^(.+?),? (?:what is (?:it|that|this)|meaning|definition|meaning of)$", r"\1"),
    _k("yes-no", r"^(?!not )(.+?),? (?:allowed|permitted|possible|ok|okay|permissible)$", r"\1", "can"),
    _k("yes-no", r"^(?!not |no )(.+?),? (?:required|mandatory|compulsory|necessary|obligatory)$", r"\1", "must"),
)  # fmt: skip
"""Tried in this order; the first that fits decides."""

REWRITES = (
    (r"\b(?:is|are|am|be|was|were|been|get)? ?(?:allowed|permitted|able|entitled) to\b", " maydo "),
    (
        r"\b(?:is|are|am|be|was|were) (?:required|obliged|obligated|forced) to\b|\b(?:have|has|had|need|needs|needed) to\b|\bmust\b",
        " mustdo ",
    ),
    (r"\b(?:should|ought to|supposed to|had better)\b", " shoulddo "),
    (r"\b(?:per|each|every|a|an) (year|month|week|day|hour|minute|person|quarter)\b", r" per \1 "),
    (r"\b(?:yearly|annually|per annum)\b", " per year "),
    (r"\bmonthly\b", " per month "),
    (r"\bweekly\b", " per week "),
    (r"\bdaily\b", " per day "),
    (
        r"\b(?:is|are|was|were|be) (.{0,60}?)\b(?:allowed|permitted|permissible|possible|allowable)\b(?! by)",
        r" \1 maydo ",
    ),
    (r"\b(?:mandatory|compulsory|obligatory)\b", " mustdo "),
    (r"\bin (ascending|descending) order\b", r" \1 "),
    (r"\b(?:ascending|descending)(?=-| sort)", r" \g<0> "),
    (r"\bthe (?:term|word|phrase|expression|abbreviation|acronym) (?=\w)", " "),
    (r"\bthe city of (?=\w)|\bthe country of (?=\w)", " "),
    (r"\b(?:amount|number|quantity) of (?=days|hours|weeks|minutes|months|years|time|money)", " "),
    (r"\bin (?:a|one|each|the course of a) (year|month|week|day|hour)\b", r" per \1 "),
    (r"\b(?:hourly)\b", " per hour "),
    (r"\b(?:quarterly)\b", " per quarter "),
    (
        r"\bannual (?=limit|budget|bonus|cost|fee|income|salary|wage|leave entitlement|number|amount|maximum)",
        " per year ",
    ),
    (r"\bwindows (?=⟦#(?:7|8|10|11)⟧)", " mswindows "),
    (r"\binto\b", " to "),
    (r"\bover the (?:internet|web)\b|\bon the (?:internet|web)\b", " online "),
    (r"\bunable to\b", " not maydo "),
    (r"\b(?:forbidden|prohibited|banned) (?:to|from)\b", " not maydo "),
    (r"\bfail(?:s|ed)? to\b", " fail "),
    (r"\bin order to\b|\bso as to\b|\bso that (?:i|we) can\b", " to "),
    (r"\b(?:in case|in the event that|provided that|assuming)\b", " if "),
    (r"\bwith (?:the )?(?:help|use) of\b|\bby means of\b|\b(?:by )?using\b", " with "),
    (r"\b(?:out of|away from)\b", " from "),
    (r"\b(?:versus|vs\.?)\b", " and "),
    (
        r"\b(?:in|with) (?:regard|respect|relation) to\b|\bwhen it comes to\b|\bin terms of\b|\bon the (?:subject|topic) of\b",
        " about ",
    ),
    (r"\b(?:such as|e\.g\.?)\b", " like "),
    (r"\bapplies (?:to|for)\b", " for "),
    (r"\bapplies$", " "),
)
