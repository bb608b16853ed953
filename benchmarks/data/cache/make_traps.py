"""Write the slot-filled rows of the trap sets; see README.md beside this file.

The first HAND rows of each set are written one by one and are kept as they stand. The rows behind them come from
the seed questions below, each with its class in front:

    {a|b|c}   the slot in which the two questions of a pair differ; every two values make a pair
    {~}       the other value of that pair, so that the second question swaps the two
    [a|b]     where the pair is fixed: a in the first question, b in the second
    <a|b|c>   a word that both questions share, to vary the wording

Values of one slot are picked so that each two of them need different answers.
"""

# ruff: noqa: E501

import itertools
import json
import random
import re
from pathlib import Path

HERE = Path(__file__).parent
HAND = {"en": 817, "zh": 821, "cross": 218}
CAP = 7

EN = """
number: What is the monthly payment on a <car|home improvement> loan of {8,000|12,000|18,000|21,000} euros over five years at 4.2 percent?
number: What does HTTP status {301|404|429|503} mean for <our API clients|a browser>?
number: How much paracetamol can I give a child who weighs {9|14|19|31} kilos?
number: What is {12|15|18|35} percent of 640, rounded to whole euros?
number: How many weeks of notice do I have to give after {2|6|11|21} years <with the company|in the plant>?
number: What is the factorial of {5|6|7|9}?
number: Please summarise section {2.1|2.4|3.1|4.2} of the <supplier code|fire safety plan> in three sentences.
number: What should the operator do when the gauge of the <steam boiler|autoclave> shows {0.2|4|40} bar?
number: A patient's temperature is {34.2|36.8|38.9|41.3} degrees. What should I tell <the family|the doctor on call>?
number: Convert the decimal number {19|91|109|190} to hexadecimal.
number: What is the cube of {6|9|16|19}?
number: How long does it take to fill a tank of 900 litres at {15|30|45|50} litres a minute?
number: Who was the {4th|14th|24th|34th} president of the United States?
number: What does line {48|84|408|480} of the <build|import> log say?
number: How many grams of <sugar|active substance> are in {0.4|0.5|4|5} litres of a 12 percent solution?
number: If I drive {180|280|310|810} kilometres for work at 0.30 euros each, what do I get back?
number: What is the chemical element with atomic number {12|17|21|71}?
number: What is the angle between the hands of a clock at {2|4|5} o'clock sharp?
number: I paid {3|13|30|33} invoices of 250 euros each. What is the sum?
number: What is the interest on 7,500 euros in a year at {1.2|2.1|3.4|4.3} percent?
number: What did question {6|9|16|19} of the employee survey ask, and how did <our site|the sales team> answer?
number: What is the train number of the connection leaving platform {2|5|12|15} at <eight|nine>?
date: Who is on duty in <the control room|the pharmacy> on {2 May|12 May|2 June|22 June}?
date: What was the <dollar|Swiss franc> rate of the euro on {14 February|14 March|4 March|24 March} 2023?
date: What were the <sales|scrap> figures for {January|June|July|November} last year?
date: Which public holidays fall in {April|May|October|December} in <Germany|Spain>?
date: What did the <works council|audit committee> decide in {2018|2019|2021|2023}?
date: Who won the Tour de France in {2011|2012|2014|2018}?
date: What day of the week was {1 March 1990|1 May 1990|1 March 1992|1 August 1994}?
date: What is planned in the training room on {Monday|Tuesday|Thursday|Friday} of next week?
date: Which <tickets|near misses> were reported {today|yesterday|last Friday|last month}?
date: How many days are left until {Easter|the summer break|Christmas|the end of the quarter}?
date: Please show my <payslip|time sheet> for {February|March|August|September}.
date: Which <alarms|backups> ran between {1 and 2 am|2 and 3 am|1 and 2 pm|10 and 11 pm} on Sunday?
date: Which songs topped the charts in {1975|1985|1986|1995}?
date: Which contract price applied to <steel|gas> in the {first|second|third|fourth} quarter of 2022?
name: What is the capital of {Latvia|Lithuania|Estonia|Albania}?
name: What is the official language of {Brazil|Chile|Suriname|Guyana}, and <who else speaks it|how many people speak it>?
name: What are common side effects of {atorvastatin|metoprolol|omeprazole|amlodipine}?
name: Which food should a patient avoid while taking {levothyroxine|warfarin|simvastatin|linezolid}?
name: In what year was {Henry VII|Henry VIII|Edward VII|George VI} crowned?
name: How do I create a <table|user> in {PostgreSQL|Oracle|MongoDB|SQLite}?
name: What is the phone number of the branch in {Hamburg|Homburg|Bamberg|Bad Homburg}?
name: Which visa does our engineer need for {India|Indonesia|Iran|Iraq}?
name: Who is the contact person at {Bosch|Bose|Busch|Bausch} for <spare parts|quality complaints>?
name: When was {Mozart|Haydn|Handel|Mahler} born and where?
name: What does {Ohm's|Hooke's|Kepler's first|Coulomb's} law say?
name: What is the population of {Lyon|Lille|Nice|Nantes}?
name: How do I request access to the {Atlas|Titan|Hermes|Apollo} <project folder|test system>?
name: What is the mobile number of {Maria Lopez|Mario Lopez|Maria Lopes|Marta Lopez}?
name: What is the flight time from Frankfurt to {Dallas|Denver|Detroit|Delhi}?
name: Which obligations does the {GDPR|AI Act|NIS2 directive|PSD2} put on <our company|a small supplier>?
name: What is the tallest building in {Kuala Lumpur|Jakarta|Manila|Bangkok}?
name: How do I deploy an app written with {Flask|Spring|Rails|Laravel} <on our cluster|behind the proxy>?
name: What is the incubation time of {measles|mumps|rubella|cholera}?
name: What is the role of {vitamin B6|vitamin B12|vitamin D|vitamin K} in the body?
unit: How many {millimetres|yards|feet|nautical miles} is a distance of <300 metres|2.4 kilometres>?
unit: What is <75 kilograms|12 kilograms> in {pounds|stone|ounces|grams}?
unit: What is <a pressure of 3 bar|the tyre pressure of 2.4 bar> in {psi|pascals|atmospheres}?
unit: Give me the energy of <a 500 kcal meal|one litre of diesel> in {joules|kilowatt hours|BTU}.
unit: How many {minutes|hours|seconds|days} are there in <three weeks|a leap year>?
unit: Express the <engine|turbine> output of 1,200 kW in {megawatts|horsepower|BTU per hour}.
unit: How many {acres|square metres|square miles|hectares} does the <plant site|car park> cover?
unit: What is <a 2-litre bottle|the 60-litre tank> in {pints|US gallons|cubic inches|millilitres}?
unit: What is <250 kelvin|310 kelvin> in degrees {Celsius|Fahrenheit|Rankine}?
unit: Please show the <disk usage|backup size> in {megabytes|gigabytes|tebibytes|percent of the quota}.
direction: How do I convert {metres|feet|yards|inches} to {~}?
direction: Translate the <warranty terms|packing slip> from {English|Dutch|Greek|Finnish} into {~}.
direction: How do I convert a file from {CSV|JSON|XML|YAML} to {~} <on the command line|in Python>?
direction: When does the last train from {Vienna|Graz|Linz|Salzburg} to {~} leave?
direction: How do I move my <mailbox|files> from {Exchange|Gmail|Zimbra} to {~}?
currency: How many kronor do I get for <500|1,200> {euros|pounds|dollars} after the fee?
direction: How do I [add|remove] a <reviewer|co-owner|second signatory> in the approval workflow?
direction: How do I [enable|disable] <two-factor login|push messages|macros|the guest account> on my work device?
direction: What should the nurse check [before|after] <a blood transfusion|a lumbar puncture|dialysis|a CT scan>?
direction: What happens to <our exports|the price of gold|mortgage demand|car sales> when interest rates [go up|go down]?
direction: How do I [open|close] <a joint account|a support ticket|the drain valve|a purchase order>?
direction: How do I [import|export] <contacts|bookmarks|the product catalogue|the chart of accounts>?
direction: What do I have to sign when I [hand over|take back] <a company car|a rented flat|the night desk>?
direction: How do I [lock|unlock] <a spreadsheet|a user account|the forklift|the drug cabinet>?
direction: How do I [raise|lower] the <credit limit|alarm threshold|screen brightness|dialysis flow>?
direction: How do I [upload|download] <a signed contract|an X-ray image|the price list|a firmware file> in the portal?
direction: Which taxes are due on <shares|a holiday home|a classic car> that I [buy|sell] this year?
direction: How do I [join|leave] <a Teams call|the car pool|the savings plan|the works choir>?
direction: What is the effect of [more|less] <salt|nitrogen|inventory|overtime> on the result?
direction: How do I [shrink|enlarge] <a partition|a photo|the print area>?
language: Write a <birthday card|reminder|short apology> in {French|Swedish|Polish|Korean}.
language: How do you say <"thank you very much"|"please sign here"|"where does it hurt"> in {Spanish|Turkish|Hungarian|Vietnamese}?
language: Please explain <the cookie policy|hand hygiene|the lockout rule> in {German|Portuguese|Arabic|Hindi}.
language: Translate the <menu|visitor form|safety sign> into {Danish|Norwegian|Dutch|Czech}.
language: Answer in {Italian|Romanian|Greek|Japanese}, please: how do I reset the <router|password>?
quantifier: What must [all|at least one] of the <directors|heirs|owners> sign when the account is opened?
quantifier: How do I select [one|every] <row|cell|layer> in this program?
quantifier: What is the probability that [exactly one|at least one] of <three|four|five> fair coins shows heads?
quantifier: Which <vendors|sites|teams> missed [one|every] delivery date this year?
quantifier: Which <courses|tools|forms> are used by [everyone|nobody] in the finance team?
comparative: Which of our <plants|branches|products> had the [highest|lowest] {costs|sales|error rate} last year?
comparative: List the <customers|suppliers> with [more|fewer] than <ten|fifty> orders.
comparative: Which <lake|country|island state> in Africa is the [largest|smallest]?
comparative: Which <employees|patients|machines> are [older|younger] than twelve years?
comparative: What is the [cheapest|quickest] way to get to <the airport|the trade fair|Geneva>?
comparative: What is the [minimum|maximum] <speed|voltage|dose|stay> allowed?
tense: Which <machines|offices|apps> [did we replace|will we replace] in the modernisation programme?
tense: Who [is|was] the <head of treasury|plant manager|chief nurse> in Porto?
tense: What [was|will be] the <base salary|list price|entry fee> for the junior grade?
tense: Which <invoices|parcels|claims> [have been|have yet to be] processed?
antonym: What are the [advantages|disadvantages] of <leasing|remote work|microservices|a four-day week>?
antonym: What are the [causes|consequences] of <burnout|inflation|corrosion|memory leaks>?
antonym: How do we treat <an acute|a chronic> [bacterial|viral] infection of the throat?
antonym: What are examples of [internal|external] <fraud|customers|audits>?
antonym: Which <costs|risks|errors> are [avoidable|unavoidable] in this project?
antonym: What does a [positive|negative] <balance|test result|correlation|feedback loop> mean?
modality: Which <documents|checks|protective clothes> are [mandatory|optional] for <visitors|new suppliers>?
modality: When [may|must] <a bank|a doctor|an employer> pass on personal data to the police?
modality: Which <files|keys|samples> [must|may] be destroyed after the retention period?
version: What changed in {Python 3.8|Python 3.10|Python 3.12|Python 3.13} for <typing|dictionaries|error messages>?
version: How long will {Windows 10|Windows 11|Windows Server 2016|Windows Server 2022} get security updates?
version: Which <defects|features> are listed in the release notes of {2.4.1|2.4.7|2.14.1|4.2.1}?
version: What does the {2012|2015|2018|2021} edition of the <welding|packaging> standard say about labels?
version: How do I write an async test in {JUnit 4|JUnit 5|NUnit 3|pytest 8}?
version: What is the maximum speed of {Wi-Fi 4|Wi-Fi 5|Wi-Fi 6}?
currency: What is the <transfer fee|overdraft limit> in {euros|dollars|pounds|yen}?
currency: How much is <250 euros|1,800 euros> in {zloty|forints|Swiss francs|kronor}?
currency: What did we bill <last month|in the third quarter> in {US dollars|Canadian dollars|Australian dollars}?
currency: What is the hotel limit for <Tokyo|Zurich|London> in {yen|francs|pounds|dollars}?
identifier: What does the option {-a|-m|-n|-v} of the command 'git commit' do?
identifier: What is the status of <ticket|change> {INC-4471|INC-4417|INC-4741|INC-7441}?
identifier: What does the function {numpy.dot|numpy.cross|numpy.outer|numpy.hstack} compute?
identifier: What does the SQL function {COALESCE|NULLIF|GREATEST|CONCAT} return?
identifier: When should I use {ArrayList|LinkedList|HashSet|TreeMap} in Java?
identifier: Where is part {AX-200|AX-220|BX-200|AX-202} stored and how many are left?
identifier: What does alarm code {F03|F30|E03|E30} on the <oven|chiller> mean?
identifier: What does {Array.map|Array.filter|Array.reduce|Array.find} return in JavaScript?
identifier: What is in column {cust_no|cust_nm|acct_no|acct_nm} of the ledger table?
scope: What is the {daily|weekly|monthly|yearly} <withdrawal|spending> limit on a <junior|business> card?
scope: What are the rules on <overtime|sick pay|holiday> for {apprentices|temps|managers|shift workers}?
scope: What are the visiting hours in {the children's ward|intensive care|psychiatry|the maternity ward}?
scope: How many <people|computers|accidents> do we have in {the Turin plant|the Milan office|Italy|the whole group}?
scope: What is the budget for {IT|marketing|training|maintenance} <this year|next year>?
scope: What is the recommended <iron|water> intake for {infants|teenagers|pregnant women|athletes}?
scope: What does the insurance pay for {glasses|dental implants|physiotherapy|hearing aids}?
scope: What is the speed limit for <lorries|cars> {in town|on country roads|on motorways|in the yard}?
qtype: {When|Where|Why} was the <treaty|contract|patent> signed?
qtype: {To whom|By when|In which format} do I have to send the <damage report|timesheet|sick note>?
qtype: {In what condition|By when|Where} do I have to return my <laptop|locker key|uniform>?
qtype: {How much|How often|Why} do we pay for the <licence|cleaning service|water test>?
qtype: {By whom|Why|When} was the <press|night train|clinical trial> stopped?
role: What happens if {the buyer|the seller|the broker} sues {~} for breach of contract?
role: What is {7|12|20|45} minus {~}?
role: What is {3|8|10|25} divided by {~}, as a decimal?
role: How much did {Finance|Logistics|Research} charge to {~} for internal services?
role: Forward me what {Nadia|Tom|Ingrid|Samir} wrote to {~} about the audit.
role: What was the score when {Spain|Brazil|Japan} last played at home against {~}?
role: Can {the insurer|the policyholder} terminate the contract with {~} early, and how?
role: What percentage of {40|50|160|200} is {~}?
exception: What is the total of the <offer|invoice|travel claim> [including|excluding] <tax|freight>?
exception: List the <branches|tests|servers>, [leaving out|keeping only] those in <the north|group B>.
exception: How do I delete all <drafts|snapshots|log files> [except|including] the newest one?
exception: How many <members|vehicles|beds> do we have [with|without] the reserve?
condition: What do I do if a customer's card is {stolen|damaged|swallowed by the machine|expired} while travelling?
condition: What am I paid if I am {ill|on jury duty|on parental leave|on a business trip} for a week?
condition: What should we do if the <sample|delivery> is {too warm|incomplete|mislabelled|late}?
condition: Which first aid applies if a worker has {a burn|an electric shock|a broken arm|swallowed acid}?
condition: How do I log in when I have forgotten my {password|user name|token|smart card}?
condition: What fee applies if I cancel the <hotel|rental car> {a week before|on the day|after arrival}?
condition: What happens to the loan if the borrower {dies|moves abroad|loses the job|sells the house}?
term: What is the {mean|median|range|variance} of <2, 4, 4, 10|1, 5, 9, 9>?
term: What is our {gross profit|net profit|turnover|cash flow} for <May|the first half>?
term: What is the {area|circumference|diameter} of a circle with radius <3|5|11> cm?
term: What is the {book value|market value|scrap value|insured value} of the <warehouse|milling machine>?
term: What is the {sine|cosine|tangent} of <30|45.5|60> degrees?
term: What is the {serial number|model|firmware version|purchase date} of the <pump in room 6|scanner at reception>?
term: What are the {symptoms|causes|treatments|complications} of <gout|anaemia|sepsis>?
term: What does {authentication|authorisation|auditing|accounting} mean in <our access policy|network security>?
format: Explain <inflation|how a vaccine works|blockchain> {in one sentence|in ten bullet points|as a story for children}.
format: Write <a reminder|a job offer|a complaint> as {an email|a text message|a formal letter}.
format: Show the <absence list|stock level|error count> as {a pie chart|a table|a single number}.
negation: Which <suppliers|patients|servers> [have|have not] been <checked|contacted> this week?
negation: Which <goods|samples|tools> [may|may not] leave the building without a pass?
negation: Which <staff|contractors|visitors> [need|do not need] an escort in the <data centre|warehouse>?
negation: What are the consequences of [reporting|not reporting] <a data breach|a work accident|second income>?
negation: Which <expenses|donations|losses> are [|not ]tax-deductible for our company?
negation: Which <countries|banks|airports> are [|not ]on the sanctions list?
negation: What should I do if the <backup|payment|lift test> [succeeds|does not succeed]?
"""

ZH = """
number: 车贷{8万|12万|18万|21万}元，分五年还，年利率百分之四点二，每月要还多少？
number: HTTP 状态码{301|404|429|503}对<接口调用方|浏览器>意味着什么？
number: 体重{9|14|19|31}公斤的孩子，对乙酰氨基酚一次吃多少？
number: 640的百分之{12|15|18|35}是多少，取整数？
number: 在公司干了{2|6|11|21}年，被裁员能拿几个月补偿？
number: {5|6|7|9}的阶乘是多少？
number: 请用三句话概括<供应商守则|消防预案>第{2.1|2.4|3.1|4.2}节。
number: <蒸汽锅炉|灭菌釜>的压力表指到{0.2|4|40}巴，操作工应该怎么办？
number: 病人体温{34.2|36.8|38.9|41.3}度，我该怎么跟<家属|值班医生>说？
number: 十进制数{19|91|109|190}换成十六进制是多少？
number: {6|9|16|19}的立方是多少？
number: 900升的水箱，每分钟进水{15|30|45|50}升，多久能灌满？
number: 《劳动合同法》第{三十八|三十九|四十|四十一}条是怎么规定的？
number: <构建|导入>日志的第{48|84|408|480}行写了什么？
number: 百分之十二的溶液{0.4|0.5|4|5}升里含多少克<糖|有效成分>？
number: 因公开自己的车跑了{180|280|310|810}公里，每公里补一块二，能报多少？
number: 原子序数是{12|17|21|71}的元素叫什么？
number: 每张250元的发票付了{3|13|30|33}张，一共多少钱？
number: 七万五千元按年利率{1.2|2.1|3.4|4.3}%存一年，利息多少？
number: 员工满意度调查第{6|9|16|19}题问的是什么，<我们厂|销售部>是怎么答的？
number: <早上八点|晚上九点>从{2|5|12|15}站台发车的是哪趟列车？
number: 员工工资{6500|9800|16500|28000}元，一个月扣多少个税？
date: <控制室|药房>{5月2日|5月12日|6月2日|6月22日}谁值班？
date: 2023年{2月14日|3月14日|3月4日|3月24日}<欧元兑美元|美元兑人民币>的汇率是多少？
date: 去年{一月|六月|七月|十一月}的<销售额|报废率>是多少？
date: {2019|2021|2022|2024}年的春节是几月几号？
date: <职代会|审计委员会>{2018|2019|2021|2023}年通过了哪些决议？
date: {2004|2008|2012|2016}年夏季奥运会中国拿了多少枚金牌？
date: {1990年3月1日|1990年5月1日|1992年3月1日|1994年8月1日}是星期几？
date: 下周{一|二|四|五}培训室安排了什么？
date: {今天|昨天|上周五|上个月}报了哪些<工单|未遂事故>？
date: 离{端午节|中秋节|元旦|本季度末}还有几天？
date: 请把我{二月|三月|八月|九月}的<工资条|考勤表>发给我。
date: 周日{凌晨一点到两点|凌晨两点到三点|下午一点到两点|晚上十点到十一点}有哪些<报警|备份任务>？
date: 2022年第{一|二|三|四}季度<钢材|天然气>执行什么合同价？
name: {唐朝|北宋|南宋|元朝}的都城在哪里？
name: {拉脱维亚|立陶宛|爱沙尼亚|阿尔巴尼亚}的首都是哪里？
name: {巴西|智利|苏里南|圭亚那}的官方语言是什么？
name: {阿托伐他汀|美托洛尔|奥美拉唑|氨氯地平}常见的副作用有哪些？
name: 吃{左甲状腺素|华法林|辛伐他汀|利奈唑胺}期间要忌哪些食物？
name: {朱元璋|朱棣|朱允炆|朱由检}是哪一年即位的？
name: 怎么在{PostgreSQL|Oracle|MongoDB|SQLite}里新建<表或集合|数据库>？
name: {海宁|海门|海口|海城}支行的电话是多少？
name: 工程师去{印度|印度尼西亚|伊朗|伊拉克}出差要办什么签证？
name: {博世|博西|博朗|博莱特}负责<备件|质量投诉>的联系人是谁？
name: {杜甫|杜牧|王维|王勃}是哪里人，生于哪一年？
name: {欧姆|胡克|库仑|焦耳}定律讲的是什么？
name: {嘉兴|绍兴|泰兴|宜兴}有多少人口？
name: 怎么申请{星河|星海|银河|天河}项目的<共享文件夹|测试环境>权限？
name: {李明|黎明|李鸣|李敏}的手机号是多少？
name: 从上海飞{达拉斯|丹佛|底特律|德里}要几个小时？
name: {个人信息保护法|数据安全法|网络安全法|反洗钱法}对<我们公司|小供应商>有什么要求？
name: {吉隆坡|雅加达|马尼拉|曼谷}最高的建筑是哪座？
name: {麻疹|腮腺炎|风疹|霍乱}的潜伏期是多久？
name: 维生素{B6|B12|D|K}在人体里起什么作用？
name: {浙江|江西|广西|海南}的省会或首府是哪里？
name: {西湖|太湖|洞庭湖|鄱阳湖}的面积有多大？
name: {三七|三棱|山药|山楂}有什么功效，哪些人不宜用？
unit: <300米|2.4公里>等于多少{毫米|码|英尺|海里}？
unit: <75公斤|12公斤>等于多少{磅|市斤|盎司|克}？
unit: <3巴的压力|2.4巴的胎压>等于多少{磅每平方英寸|帕|标准大气压}？
unit: <一顿500大卡的饭|一升柴油>的能量是多少{焦耳|千瓦时}？
unit: <三个星期|闰年一年>有多少{分钟|小时|秒|天}？
unit: <发动机|汽轮机>功率1200千瓦等于多少{兆瓦|马力|瓦}？
unit: <厂区|停车场>占地多少{亩|平方米|公顷}？
unit: <两升一瓶的水|60升的油箱>等于多少{品脱|美制加仑|毫升}？
unit: <250开|310开>等于多少{摄氏度|华氏度}？
unit: <磁盘用量|备份大小>请按{兆字节|吉字节|占配额的百分比}显示。
direction: 怎么把{米|英尺|码|英寸}换算成{~}？
direction: 请把<保修条款|装箱单>从{英语|荷兰语|希腊语|芬兰语}翻译成{~}。
direction: <命令行里|Python 里>怎么把{CSV|JSON|XML|YAML}转成{~}？
direction: 从{杭州|宁波|温州|金华}坐高铁到{~}，最晚一班几点开？
direction: 怎么把<邮箱数据|通讯录>从{Exchange|Gmail|网易企业邮}迁到{~}？
direction: 审批流程里怎么[添加|删除]<审核人|共同负责人|第二签字人>？
direction: 办公电脑上怎么[开启|关闭]<双因素登录|消息推送|宏|访客账号>？
direction: <输血|腰穿|透析|增强 CT>[前|后]护士要检查什么？
direction: 利率[上调|下调]对<出口|金价|房贷需求|汽车销量>有什么影响？
direction: 怎么[打开|关闭]<共享文件夹|泄压阀|工单|采购单>？
direction: 怎么[导入|导出]<联系人|书签|产品目录|会计科目>？
direction: [交出|收回]<公车|出租的房子|夜班值班台>时要签什么字？
direction: 怎么[锁定|解锁]<电子表格|用户账号|叉车|药柜>？
direction: 怎么[调高|调低]<信用额度|报警阈值|屏幕亮度|透析流量>？
direction: 怎么在门户里[上传|下载]<签好的合同|X 光片|价目表|固件>？
direction: 今年[买入|卖出]<股票|度假房|老爷车>要交哪些税？
direction: 怎么[加入|退出]<视频会议|拼车群|储蓄计划|职工合唱团>？
direction: <盐|氮肥|库存|加班>[增加|减少]会带来什么结果？
direction: 怎么[缩小|放大]<分区|照片|打印区域>？
direction: [用人单位|劳动者]单方<解除合同|变更岗位|提出加班>要满足什么条件？
language: 用{法语|瑞典语|波兰语|韩语}写一<张生日贺卡|则提醒|封简短的道歉信>。
language: <“非常感谢”|“请在这里签字”|“哪里疼”>用{西班牙语|土耳其语|匈牙利语|越南语}怎么说？
language: 请用{德语|葡萄牙语|阿拉伯语|印地语}解释<隐私政策|洗手规范|上锁挂牌制度>。
language: 把<菜单|访客登记表|安全标识>翻译成{丹麦语|挪威语|荷兰语|捷克语}。
language: 请用{意大利语|罗马尼亚语|希腊语|日语}回答：怎么重置<路由器|密码>？
quantifier: 开户时[全体|任意一名]<董事|继承人|产权人>要签哪些文件？
quantifier: 这个软件里怎么选中[一个|所有]<行|单元格|图层>？
quantifier: 抛<三|四|五>枚硬币，[恰好|至少]一枚正面的概率是多少？
quantifier: 今年哪些<供应商|网点|班组>[有一次|每次都]没按期交付？
quantifier: 财务部[人人都|没有人]用的<课程|工具|表单>有哪些？
comparative: 去年哪个<工厂|网点|产品>的{成本|销售额|差错率}[最高|最低]？
comparative: 列出订单[多于|少于]<十|五十>笔的<客户|供应商>。
comparative: 非洲[最大|最小]的<湖|岛国|国家>是哪个？
comparative: 哪些<病人|学员|参赛者>的年龄[超过|不到]十二岁？
comparative: 去<机场|展会|日内瓦>[最便宜|最快]的办法是什么？
comparative: 允许的[最小|最大]<速度|电压|剂量|停留天数>是多少？
tense: 改造项目里[已经换掉|将要更换]的<设备|办公室|软件>有哪些？
tense: 波尔图的<资金部主任|厂长|护士长>[现在是|以前是]谁？
tense: 初级岗位的<基本工资|标价|入会费>[过去|今后]是多少？
tense: 哪些<发票|包裹|理赔>[已经处理|还没处理]？
antonym: <融资租赁|远程办公|微服务|四天工作制>有哪些[优点|缺点]？
antonym: <职业倦怠|通货膨胀|腐蚀|内存泄漏>的[原因|后果]是什么？
antonym: [细菌性|病毒性]<急性|慢性>咽炎怎么治？
antonym: [内部|外部]<欺诈|客户|审计>有哪些例子？
antonym: 哪些<成本|风险|差错>是[可以避免|无法避免]的？
antonym: <余额|检测结果|相关系数|电荷>为[正|负]是什么意思？
modality: <访客|新供应商>的哪些<材料|检查|防护用品>是[必需|可选]的？
modality: <银行|医生|雇主>什么时候[可以|必须]把个人信息交给警方？
modality: 保存期满后哪些<档案|密钥|样品>[必须|可以]销毁？
version: {Python 3.8|Python 3.10|Python 3.12|Python 3.13}在<类型标注|字典|报错信息>方面改了什么？
version: {Windows 10|Windows 11|Windows Server 2016|Windows Server 2022}的安全更新到哪年？
version: {2.4.1|2.4.7|2.14.1|4.2.1}版的发布说明里列了哪些<缺陷|新功能>？
version: <焊接|包装>标准{2012|2015|2018|2021}版对标签是怎么规定的？
version: {Wi-Fi 4|Wi-Fi 5|Wi-Fi 6}的最大速率是多少？
version: {Spring Boot 2|Spring Boot 3|Django 4|Rails 7}最低要求什么运行环境？
currency: <转账手续费|透支限额>是多少{欧元|美元|英镑|日元}？
currency: <250欧元|1800欧元>能换多少{兹罗提|福林|瑞士法郎|瑞典克朗}？
currency: <上个月|三季度>我们开票多少{美元|加元|澳元}？
currency: <东京|苏黎世|伦敦>的住宿标准折合多少{日元|法郎|英镑|美元}？
identifier: 命令 git commit 的{-a|-m|-n|-v}参数是什么意思？
identifier: <工单|变更单>{INC-4471|INC-4417|INC-4741|INC-7441}现在什么状态？
identifier: NumPy 的{dot|cross|outer|hstack}函数算的是什么？
identifier: SQL 函数{COALESCE|NULLIF|GREATEST|CONCAT}返回什么？
identifier: Java 里什么时候用{ArrayList|LinkedList|HashSet|TreeMap}？
identifier: 零件{AX-200|AX-220|BX-200|AX-202}放在哪个库位，还剩几个？
identifier: <烤炉|冷水机>报{F03|F30|E03|E30}是什么故障？
identifier: JavaScript 的{map|filter|reduce|find}方法返回什么？
identifier: 总账表的{cust_no|cust_nm|acct_no|acct_nm}列存的是什么？
scope: <青少年卡|商务卡>{每天|每周|每月|每年}的<取现|消费>限额是多少？
scope: {学徒|派遣工|经理|倒班工人}的<加班|病假工资|年假>怎么规定？
scope: {儿科|重症监护室|精神科|产科}的探视时间是几点到几点？
scope: {苏州工厂|无锡办事处|江苏|整个集团}一共有多少<人|台电脑|起事故>？
scope: {信息化|市场推广|员工培训|设备维修}的预算<今年|明年>是多少？
scope: {婴儿|青少年|孕妇|运动员}每天应该摄入多少<铁|水>？
scope: {配眼镜|种牙|理疗|助听器}医疗险赔多少？
scope: <货车|轿车>{在城区|在乡道|在高速上|在厂区}限速多少？
qtype: <条约|合同|专利协议>是{什么时候|在哪里|为什么}签的？
qtype: <事故报告|考勤表|病假条>{交给谁|什么时候交|怎么填}？
qtype: <笔记本电脑|储物柜钥匙|工作服>{归还时要检查什么|什么时候还|还到哪里}？
qtype: <软件许可|保洁|水质检测>{一次多少钱|多久一次|为什么要做}？
qtype: <冲床|夜班车|临床试验>是{谁|为什么|什么时候}叫停的？
role: {买方|卖方|中介}起诉{~}违约要怎么办？
role: {7|12|20|45}减{~}等于多少？
role: {3|8|10|25}除以{~}，写成小数是多少？
role: {财务部|物流部|研发部}向{~}收了多少内部服务费？
role: 把{小赵|小钱|小孙|小李}写给{~}的审计邮件转给我。
role: {保险公司|投保人}怎么提前与{~}解除合同，要由谁先提出？
role: {40|50|160|200}是{~}的百分之几？
role: {山东队|上海队|北京队}主场对{~}那场球是哪天？
exception: <报价|发票|差旅费>的总额是多少，[含|不含]<税|运费>？
exception: 列出[除北区以外|北区]的<网点|测试项|服务器>。
exception: 怎么删掉所有<草稿|快照|日志文件>，[最新的除外|最新的也删]？
exception: [算上|不算]备用的，我们有多少<名会员|辆车|张床位>？
condition: 出差途中银行卡{被盗|损坏|被机器吞了|过期了}怎么办？
condition: {生病|出庭作证|休产假|出差}一周工资怎么发？
condition: <样品|货物>{温度过高|数量不全|标签贴错|晚到}了怎么处理？
condition: 工人{烫伤|触电|手臂骨折|误服酸液}时怎么急救？
condition: {密码忘了|用户名忘了|令牌丢了|门禁卡丢了}怎么<办|处理>？
condition: <酒店|民宿>{提前一周|当天|入住后}取消收多少钱？
condition: 借款人{去世|移居国外|失业|把房子卖了}，贷款怎么办？
term: <2、4、4、10|1、5、9、9>的{平均数|中位数|极差|方差}是多少？
term: <五月|上半年>的{毛利|净利|营业额|现金流}是多少？
term: 半径<3|5|11>厘米的圆，{面积|周长|直径}是多少？
term: <仓库|铣床>的{账面价值|市场价值|残值|投保价值}是多少？
term: <30|45.5|60>度的{正弦|余弦|正切}是多少？
term: <6号房的输液泵|前台的扫描仪>的{序列号|型号|固件版本|采购日期}是多少？
term: <痛风|贫血|败血症>的{症状|病因|治疗方法|并发症}有哪些？
term: <权限制度|网络安全>里说的{认证|授权|审计|计费}是什么意思？
format: {用一句话|分十个要点|编成儿童故事}解释<通货膨胀|疫苗的原理|区块链>。
format: 把<催款通知|录用通知|投诉>写成{邮件|短信|正式公函}。
format: 把<缺勤名单|库存|错误数>用{饼图|表格|一个数字}给我看。
negation: 本周哪些<供应商|病人|服务器>[已经|还没]<检查|联系>过？
negation: 没有出门条，哪些<货物|样品|工具>[可以|不可以]带出大楼？
negation: 进<数据中心|仓库>时哪些<员工|外包人员|访客>[需要|不需要]陪同？
negation: [上报|不上报]<数据泄露|工伤|兼职收入>有什么后果？
negation: 哪些<支出|捐赠|损失>[可以|不可以]税前扣除？
negation: 哪些<国家|银行|机场>[在|不在]制裁名单上？
negation: <备份|付款|电梯检测>[成功|不成功]的话怎么办？
"""


def pairs(line: str) -> list[tuple[str, str]]:
    """Every pair that one seed question gives, in the order of its slots."""
    shared = [m.split("|") for m in re.findall(r"<([^<>]*)>", line)]
    out = []
    for words in itertools.product(*shared):
        fill = iter(words)
        text = re.sub(r"<[^<>]*>", lambda _, fill=fill: next(fill), line)
        sides = [re.sub(r"\[([^\[\]|]*)\|([^\[\]|]*)\]", rf"\{n}", text) for n in (1, 2)]
        slot = re.search(r"\{([^{}~]*)\}", text)
        if slot is None:
            out.append((sides[0], sides[1]))
            continue
        values = slot[1].split("|")
        if sides[0] != sides[1]:  # a fixed pair: the slot is then one more shared word
            out += [(sides[0].replace(slot[0], v), sides[1].replace(slot[0], v)) for v in values]
            continue
        for v, w in itertools.combinations(values, 2):
            out.append((text.replace(slot[0], v).replace("{~}", w), text.replace(slot[0], w).replace("{~}", v)))
    return out


def rows(seeds: str, lang: str, rng: random.Random) -> list[dict[str, str]]:
    out = []
    for line in seeds.strip().splitlines():
        name, text = line.strip().split(": ", 1)
        found = pairs(text)
        for a, b in rng.sample(found, min(CAP, len(found))):
            a, b = (re.sub(r"\s+", " ", x).strip() for x in (a, b))
            if lang == "en":
                a, b = (x[0].upper() + x[1:] for x in (a, b))
            if rng.random() < 0.5:
                a, b = b, a
            out.append({"a": a, "b": b, "class": name, "lang": lang})
    return out


def main() -> None:
    seen: set[frozenset[str]] = set()
    for lang, seeds in (("en", EN), ("zh", ZH), ("cross", "")):
        path = HERE / f"traps_{lang}.jsonl"
        hand = [json.loads(line) for line in path.read_text("utf-8").splitlines()[: HAND[lang]]]
        kept = []
        for row in hand + rows(seeds, lang, random.Random(7)):
            key = frozenset(row[side].strip().casefold() for side in "ab")
            if len(key) == 2 and key not in seen:
                seen.add(key)
                kept.append(row)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), "utf-8")
        print(lang, len(kept), "of which by hand", len(hand))


if __name__ == "__main__":
    main()
